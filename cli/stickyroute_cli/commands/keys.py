"""`stickyroute keys`: the fleet's token keys."""

import subprocess
from collections.abc import Sequence

import click

from stickyroute_cli.terminal import InputError, say
from stickyroute_operator.keys import COMMAND
from stickyroute_operator.pki import Names

CHART = "stickyroute"
LONGEST = 40
"""Characters that the chart leaves of a name, so that suffixes fit behind it."""


@click.group(short_help="Rotate the token keys of a fleet.")
def keys() -> None:
    """The keys that seal session tokens."""


@keys.command(short_help="Make the next key; no session ends by it.")
@click.option(
    "-n",
    "--namespace",
    default="stickyroute",
    show_default=True,
    metavar="NAME",
    help="Where StickyRoute is installed.",
)
@click.option(
    "--release",
    default="stickyroute",
    show_default=True,
    metavar="NAME",
    help="The Helm release, or the chart's fullnameOverride.",
)
@click.option("--context", metavar="NAME", help="The kubeconfig context; kubectl's own unless given.")
def rotate(namespace: str, release: str, context: str | None) -> None:
    """Make the next key. It seals once every proxy holds it; the one before opens on. No session ends by it.

    Goes through kubectl: it needs the right to patch the Secret RELEASE-token-keys, which the chart calls
    RELEASE-stickyroute-token-keys where the release's name lacks the word. With the chart's nameOverride,
    name as --release what comes before -token-keys.
    """
    where = [*([f"--context={context}"] if context else []), "--namespace", namespace]
    told = ""
    for fullname in _fullnames(release):
        secret = Names.of(fullname).token_keys
        error = _annotate(where, secret)
        if error is None:
            where_told = f"Secret {namespace}/{secret}"
            say(f"ordered: the operator begins within seconds, and its log tells ({where_told})")
            return
        told = told or error  # of the likelier name
        if not any(word in error for word in ("NotFound", "Forbidden")):  # rights may be to one name only
            told = error
            break
    raise InputError(f"{told}; name the installation with --namespace and --release")


def _fullnames(release: str) -> tuple[str, ...]:
    """What the chart may call a release's objects: by `fullnameOverride`, or by the release's name."""
    names = (release,) if CHART in release else (f"{release}-{CHART}", release)
    return tuple(dict.fromkeys(name[:LONGEST].removesuffix("-") for name in names))  # the cut may leave one


def _annotate(where: Sequence[str], secret: str) -> str | None:
    """Orders the rotation; what kubectl says where it fails."""
    order = ["annotate", "secret", secret, f"{COMMAND}=now", "--overwrite"]
    try:
        done = subprocess.run(  # noqa: S603 - what the user names goes to kubectl as arguments, not to a shell
            ["kubectl", *where, *order],  # noqa: S607 - the user's own kubectl
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise InputError(
            "kubectl is not installed here: install it, or annotate the Secret yourself"
        ) from None
    return (done.stderr.strip() or "kubectl failed") if done.returncode else None
