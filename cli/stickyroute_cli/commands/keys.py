"""`stickyroute keys`: the fleet's token keys."""

import subprocess

import click

from stickyroute_cli.terminal import InputError, say
from stickyroute_operator.keys import COMMAND
from stickyroute_operator.pki import Names


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

    Goes through kubectl: it needs the right to patch the Secret RELEASE-token-keys.
    """
    secret = Names.of(release).token_keys
    where = [f"--context={context}"] if context else []
    order = ["--namespace", namespace, "annotate", "secret", secret, f"{COMMAND}=now", "--overwrite"]
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
    if done.returncode:
        raise InputError(
            f"{done.stderr.strip() or 'kubectl failed'}; name the installation with --namespace and --release"
        )
    say(f"ordered: the operator begins within seconds, and its log tells (Secret {namespace}/{secret})")
