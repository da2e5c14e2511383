"""Evidently's server, with the tabs that its open-source page leaves out.

Evidently stores a dashboard's tabs, but the page of its open-source server shows the panels of all
of them below one another. Here the page of a project gets a row of links at its top, one a tab
(/projects/ID?tab=drift), and the list of panels that it then asks for is cut down to that tab.
Without ?tab= everything is as Evidently has it.
"""

import json
import re
from collections.abc import Awaitable, Callable
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mtmh.environment import set_environment

App = Callable[..., Awaitable[None]]
Change = Callable[[bytes], bytes]
PAGE = re.compile(r"/projects/([0-9a-f-]{36})/?")
PANELS = re.compile(r"/api/v2/dashboards/([0-9a-f-]{36})/?")
STYLE = (Path(__file__).parent / "tabs.css").read_text()


def serve(workspace: Path, port: int, host: str = "127.0.0.1") -> None:
    """Serve the workspace until Ctrl-C, without telemetry: on this machine alone, or on `host`.

    Nobody is asked who they are: on another host than this machine, something before it must keep
    strangers out.
    """
    set_environment()
    import uvicorn
    from evidently.ui.service.app import create_app, get_config

    def evidently() -> App:
        config = get_config(host=host, port=port, workspace=str(workspace))
        config.storage.autorefresh = False  # its way hears of no file that another node writes
        application: App = create_app(config)
        return application

    app = with_tabs(as_drawn(evidently, workspace), workspace)
    uvicorn.run(app, host=host, port=port, log_level="warning")


def as_drawn(make: Callable[[], App], workspace: Path) -> App:
    """The application that `make` gives, made anew once a dashboard of `workspace` was drawn again:
    by then everything on it is there.
    """

    def drawn() -> list[tuple[str, int]]:
        files = sorted(workspace.glob("*/dashboard.json"))
        return [(str(file), file.stat().st_mtime_ns) for file in files]

    current = (drawn(), make())

    async def app(scope: dict[str, Any], receive: App, send: App) -> None:
        nonlocal current
        if scope["type"] == "http" and (state := drawn()) != current[0]:
            current = (state, make())
        await current[1](scope, receive, send)

    return app


def address(port: int, project: str, tab: str) -> str:
    """Where one tab of a project's dashboard is."""
    return f"http://127.0.0.1:{port}/projects/{project}?tab={slug(tab)}"


def slug(title: str) -> str:
    """A tab's title as it stands in an address: letters and hyphens."""
    return re.sub(r"[^a-z]+", "-", title.lower()).strip("-")


def with_tabs(app: App, workspace: Path) -> App:
    """The ASGI application `app` of Evidently, its dashboards in tabs."""

    async def tabbed(scope: dict[str, Any], receive: App, send: App) -> None:
        is_get = scope["type"] == "http" and scope["method"] == "GET"
        change = _change(scope, workspace) if is_get else None
        if change is None:
            await app(scope, receive, send)
        else:
            await app(scope, receive, _changing(send, change))

    return tabbed


def _change(scope: dict[str, Any], workspace: Path) -> Change | None:
    """What becomes of the answer to a request; None where it is left alone."""
    if page := PAGE.fullmatch(scope["path"]):
        path = workspace / page[1] / "dashboard.json"
        dashboard = json.loads(path.read_text()) if path.is_file() else {}
        titles = [str(tab["title"]) for tab in dashboard.get("tabs", [])]
        chosen = parse_qs(scope["query_string"].decode()).get("tab", [""])[0]
        # The row of tabs, in HTML; nothing for a dashboard without any.
        parts = []
        for title in titles:
            here = ' aria-current="page"' if slug(title) == chosen else ""
            href = f"/projects/{page[1]}?tab={slug(title)}"
            parts.append(f'<a href="{href}"{here}>{escape(title)}</a>')
        nav = f'<nav class="mtmh-tabs" aria-label="Tabs">{"".join(parts)}</nav>'
        links = f"<style>{STYLE}</style>{nav}".encode() if titles else b""
        return lambda body: body.replace(b"<body>", b"<body>" + links, 1)
    if PANELS.fullmatch(scope["path"]):
        # The page asks for its panels without a tab; the browser says from which address it asks.
        headers = scope["headers"]
        referer = next((value.decode() for name, value in headers if name == b"referer"), "")
        chosen = parse_qs(urlsplit(referer).query).get("tab", [""])[0]

        def of_tab(model: bytes) -> bytes:
            # Of one tab; all of them when there is no such tab.
            dashboard = json.loads(model)
            tabs = [tab for tab in dashboard["tabs"] if slug(str(tab["title"])) == chosen]
            if tabs:
                by_id = {panel["id"]: panel for panel in dashboard["panels"]}
                dashboard["panels"] = [by_id[panel] for panel in tabs[0]["panels"]]
            return json.dumps(dashboard).encode()

        return of_tab if chosen else None
    return None


def _changing(send: App, change: Change) -> App:
    """Hold an answer back until it is whole, and send it changed; anything but a plain 200 goes as
    it is.
    """
    held: list[dict[str, Any]] = []

    async def changed(message: dict[str, Any]) -> None:
        held.append(message)
        # The head has the body's length: it cannot go out before the body is whole.
        if message["type"] == "http.response.start" or message.get("more_body"):
            return
        start, *parts = held
        # An error is no dashboard, and a 304 has no body: there is nothing to change.
        if start["status"] != 200:
            for original in held:
                await send(original)
            return
        body = change(b"".join(part.get("body", b"") for part in parts))
        # These describe the body as it was.
        of_body = (b"content-length", b"etag", b"last-modified")
        headers = [(name, value) for name, value in start["headers"] if name.lower() not in of_body]
        # All tabs ask for their panels at one address: a browser that stored the answer would
        # show one tab's panels in all of them.
        headers += [(b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
        await send({**start, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    return changed
