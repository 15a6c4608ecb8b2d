"""Guildhall from Python: the client that ariadne-codegen makes, with a session and subscriptions that outlive a break."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeAlias, cast

import httpx
from websockets.exceptions import WebSocketException

from generated import Guildhall, RefreshSessionInput
from generated.invitation_status_changed import InvitationStatusChangedInvitationStatusChanged

InvitationChange: TypeAlias = InvitationStatusChangedInvitationStatusChanged


class Tokens(Protocol):
    """As `signIn` and `refreshSession` give them."""

    access_token: str
    expires_at: datetime
    refresh_token: str


class Session(httpx.Auth):
    """Who is signed in. The access token lasts 15 minutes; each refresh gives the next one, and the next refresh token."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.tokens: Tokens | None = None
        self._refreshing = asyncio.Lock()

    async def headers(self) -> dict[str, str]:
        """The header `Authorization`, in the form that HTTP and `connection_init` take alike."""
        async with self._refreshing:
            if self.tokens and self.tokens.expires_at - datetime.now(UTC) < timedelta(seconds=30):
                await self.refresh()
        return {"authorization": f"Bearer {self.tokens.access_token}"} if self.tokens else {}

    async def refresh(self) -> None:
        """Gets new tokens. Who can have none any more is signed out."""
        if self.tokens:
            async with Guildhall(f"{self.url}/graphql") as client:
                given = RefreshSessionInput(refresh_token=self.tokens.refresh_token)
                self.tokens = (await client.refresh_session(given)).refresh_session.session

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        request.headers.update(await self.headers())
        yield request


def connect(session: Session, socket_url: str | None = None) -> Guildhall:
    """The client of a session; `socket_url` where subscriptions are reached elsewhere."""
    return Guildhall(
        f"{session.url}/graphql",
        # The generated code wants arguments by position that httpx takes by name only, as it gives them.
        http_client=cast(Any, httpx.AsyncClient(auth=session)),
        ws_url=f"{socket_url or session.url.replace('http', 'ws', 1)}/graphql/ws",
    )


async def watch_invitations(
    client: Guildhall, session: Session, workspace_id: str, pause: float = 1
) -> AsyncIterator[InvitationChange]:
    """
    Every change of the workspace's invitations, for good: after a break of the connection it asks for what was
    missed. Where a change says `resync_required`, as the first one does, read the list anew.
    """
    after = "now"
    while True:
        client.ws_connection_init_payload = dict(await session.headers())
        try:
            async for event in client.invitation_status_changed(workspace_id, after=after):
                change = event.invitation_status_changed
                after = change.cursor
                yield change
        except (OSError, WebSocketException):
            pass
        await asyncio.sleep(pause)
