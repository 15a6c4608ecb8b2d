"""The main job, from an empty server to an accepted invitation, through a connection that breaks."""

import asyncio
import os
import re
import unittest
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from generated import (
    CreateWorkspaceInput,
    InviteMemberInput,
    RegisterInput,
    RevokeInvitationInput,
    SetUpInput,
    SignInInput,
)
from generated.enums import InvitationStatus, SetUpErrorCode
from guildhall import InvitationChange, Session, connect, watch_invitations

URL = os.environ["GUILDHALL_URL"]
SETUP_TOKEN = os.environ["GUILDHALL_SETUP_TOKEN"]
MAIL = Path(os.environ["GUILDHALL_MAIL"])


class Network:
    """A relay to the server that can be cut."""

    def __init__(self) -> None:
        self.broken = False
        self.connections = 0
        self._open: list[asyncio.StreamWriter] = []

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def stop(self) -> None:
        self.breaks()
        self._server.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.broken:
            writer.transport.abort()
            return
        self.connections += 1
        host, port = URL.removeprefix("http://").split(":")
        upstream, to_upstream = await asyncio.open_connection(host, int(port))
        self._open += [writer, to_upstream]
        await asyncio.gather(self._copy(reader, to_upstream), self._copy(upstream, writer))

    @staticmethod
    async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    def breaks(self) -> None:
        self.broken = True
        for writer in self._open:
            writer.transport.abort()

    def comes_back(self) -> None:
        self.broken = False


async def until(is_it: Callable[[], bool], otherwise: str) -> None:
    for _ in range(400):
        if is_it():
            return
        await asyncio.sleep(0.025)
    raise AssertionError(otherwise)


async def link_mailed_to(address: str) -> str:
    def found() -> list[str]:
        mails = [path.read_text().replace("=\n", "") for path in MAIL.glob("*.eml")]
        links = [re.search(r"http://\S+/invitations/[\w-]{43}", mail) for mail in mails if address in mail]
        return [link.group() for link in links if link]

    await until(lambda: bool(found()), f"no mail to {address}")
    return found()[0]


class Refusal(Protocol):
    message: str


def done(refusals: Sequence[Refusal]) -> None:
    assert not refusals, [refusal.message for refusal in refusals]


class Walk(unittest.IsolatedAsyncioTestCase):
    async def test_from_the_set_up_link_to_an_accepted_invitation(self) -> None:
        network = Network()
        session = Session(URL)
        ada = connect(session, await network.start())

        given = SetUpInput(
            token=SETUP_TOKEN,
            organization_name="Analytical Society",
            display_name="Ada Lovelace",
            email="ada@example.org",
            password="violet tram under the bridge",
        )
        done((await ada.set_up(given)).set_up.user_errors)
        again = (await ada.set_up(given)).set_up.user_errors
        self.assertEqual([refusal.code for refusal in again], [SetUpErrorCode.SETUP_DONE])

        signed_in = (
            await ada.sign_in(SignInInput(email="ada@example.org", password="violet tram under the bridge"))
        ).sign_in
        done(signed_in.user_errors)
        session.tokens = signed_in.session

        made = (
            await ada.create_workspace(CreateWorkspaceInput(display_name="Malaria Atlas", countries=["BJ", "TG"]))
        ).create_workspace
        done(made.user_errors)
        assert made.workspace
        workspace_id = made.workspace.id

        changes: list[InvitationChange] = []
        reads = 0

        async def watch() -> None:
            nonlocal reads
            async for change in watch_invitations(ada, session, workspace_id, pause=0.1):
                if change.resync_required:
                    reads += 1
                else:
                    changes.append(change)

        async def told(status: InvitationStatus, address: str) -> None:
            def is_it() -> bool:
                return any(c.status == status and c.invitation and c.invitation.email == address for c in changes)

            await until(is_it, f"{address} being {status} is not told: {changes}")

        async def invite(address: str) -> str:
            invited = (
                await ada.invite_member(InviteMemberInput(workspace_id=workspace_id, email=address, role="VIEWER"))
            ).invite_member
            done(invited.user_errors)
            assert invited.invitation
            return invited.invitation.id

        watching = asyncio.create_task(watch())
        await until(lambda: reads == 1, "the subscription does not begin")
        await invite("grace@example.org")
        await told(InvitationStatus.PENDING, "grace@example.org")
        token = (await link_mailed_to("grace@example.org")).rsplit("/", 1)[1]
        stranger = connect(Session(URL))
        seen = (await stranger.invitation_by_token(token)).invitation_by_token
        assert seen
        self.assertEqual(seen.inviter_name, "Ada Lovelace")
        registered = (
            await stranger.register(
                RegisterInput(token=token, display_name="Grace Hopper", password="a moth in relay seventy")
            )
        ).register
        done(registered.user_errors)
        await told(InvitationStatus.ACCEPTED, "grace@example.org")

        # The network breaks; what happens meanwhile comes when it is back, each change once and in order.
        before = len(changes)
        network.breaks()
        missed = await invite("eve@example.org")
        revoked = await ada.revoke_invitation(RevokeInvitationInput(workspace_id=workspace_id, invitation_id=missed))
        done(revoked.revoke_invitation.user_errors)
        await session.refresh()
        self.assertEqual(len(changes), before)
        network.comes_back()
        await told(InvitationStatus.REVOKED, "eve@example.org")
        self.assertEqual((reads, network.connections), (1, 2))
        cursors = [change.cursor for change in changes]
        self.assertEqual(len(cursors), len(set(cursors)))
        statuses = [c.status for c in changes[before:] if c.invitation and c.invitation.id == missed]
        self.assertEqual((statuses[0], statuses[-1]), (InvitationStatus.PENDING, InvitationStatus.REVOKED))
        watching.cancel()
        network.stop()

        # Who is there now, page by page.
        names: list[str] = []
        after: str | None = None
        while True:
            workspace = (await ada.workspace(made.workspace.name, after=after)).workspace
            assert workspace and workspace.members
            names += [member.principal.display_name for member in workspace.members.nodes]
            after = workspace.members.page_info.end_cursor
            if not workspace.members.page_info.has_next_page:
                break
        self.assertEqual(names, ["Ada Lovelace", "Grace Hopper"])
        await ada.http_client.aclose()
        await stranger.http_client.aclose()


if __name__ == "__main__":
    unittest.main()
