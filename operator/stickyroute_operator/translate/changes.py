"""A rule's filters to what it changes in messages."""

from stickyroute_api import changes as resolved
from stickyroute_api import spec as api


def changes(rule: api.Rule) -> resolved.Changes:
    """The changes that a valid rule's filters ask for; each type stands once at most."""
    parts = {one.type: one for one in rule.filters}
    request, response = parts.get("RequestHeaderModifier"), parts.get("ResponseHeaderModifier")
    rewrite, redirect = parts.get("URLRewrite"), parts.get("RequestRedirect")
    return resolved.Changes(
        request_headers=_headers(request.request_header_modifier if request else None),
        response_headers=_headers(response.response_header_modifier if response else None),
        rewrite=_rewrite(rewrite.url_rewrite if rewrite else None),
        redirect=_redirect(redirect.request_redirect if redirect else None),
    )


def _headers(modifier: api.HeaderModifier | None) -> resolved.HeaderChanges:
    if modifier is None:
        return resolved.HeaderChanges()
    return resolved.HeaderChanges(
        set=tuple((header.name, header.value) for header in modifier.set),
        add=tuple((header.name, header.value) for header in modifier.add),
        remove=modifier.remove,
    )


def _rewrite(rewrite: api.UrlRewrite | None) -> resolved.Rewrite | None:
    if rewrite is None:
        return None
    return resolved.Rewrite(hostname=rewrite.hostname or "", path=_path(rewrite.path))


def _redirect(redirect: api.RequestRedirect | None) -> resolved.Redirect | None:
    if redirect is None:
        return None
    return resolved.Redirect(
        scheme=redirect.scheme or "",
        hostname=redirect.hostname or "",
        port=redirect.port or 0,
        path=_path(redirect.path),
        status=redirect.status_code,
    )


def _path(path: api.PathModifier | None) -> resolved.PathChange | None:
    if path is None:
        return None
    value = path.replace_full_path if path.type == "ReplaceFullPath" else path.replace_prefix_match
    return resolved.PathChange(type=path.type, value=value or "")
