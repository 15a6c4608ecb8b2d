//! The main job, from an empty server to an accepted invitation, through a connection that breaks.

use std::{
    collections::HashSet,
    env, fs,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use guildhall_client::{
    CreateWorkspace, Guildhall, InvitationByToken, InvitationChange, InviteMember, Register,
    RevokeInvitation, SetUp, SignIn, Tokens, Workspace, create_workspace, invitation_by_token,
    invitation_status_changed::InvitationStatus, invite_member, register, revoke_invitation, set_up, sign_in,
    workspace,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::sleep,
};

fn environment(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run this by ../serve"))
}

/// A relay to the server that can be cut.
#[derive(Default)]
struct Network {
    broken: AtomicBool,
    connections: AtomicUsize,
    cut: Notify,
}

impl Network {
    async fn start(self: &Arc<Self>, server: String) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let network = Arc::clone(self);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                if network.broken.load(Ordering::SeqCst) {
                    continue;
                }
                network.connections.fetch_add(1, Ordering::SeqCst);
                let mut far = TcpStream::connect(&server).await.unwrap();
                let network = Arc::clone(&network);
                tokio::spawn(async move {
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        () = network.cut.notified() => {}
                    }
                });
            }
        });
        url
    }

    fn breaks(&self) {
        self.broken.store(true, Ordering::SeqCst);
        self.cut.notify_waiters();
    }

    fn comes_back(&self) {
        self.broken.store(false, Ordering::SeqCst);
    }
}

async fn until<T>(otherwise: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..400 {
        if let Some(found) = look() {
            return found;
        }
        sleep(Duration::from_millis(25)).await;
    }
    panic!("{otherwise}");
}

async fn token_mailed_to(address: &str) -> String {
    let directory = PathBuf::from(environment("GUILDHALL_MAIL"));
    until(&format!("no mail to {address}"), || {
        let files = fs::read_dir(&directory).ok()?;
        let paths = files.map(|file| file.unwrap().path());
        let mails = paths.filter(|path| path.extension().is_some_and(|extension| extension == "eml"));
        // Long lines are folded with a `=` at the end.
        let mut texts = mails.map(|path| fs::read_to_string(path).unwrap().replace("=\r\n", ""));
        let mail = texts.find(|mail| mail.contains(address))?;
        let token = mail.split("/invitations/").nth(1)?;
        Some(token.chars().take(43).collect())
    })
    .await
}

/// What the watcher has seen.
#[derive(Default)]
struct Seen {
    changes: Mutex<Vec<InvitationChange>>,
    reads: AtomicUsize,
}

impl Seen {
    async fn told(&self, status: InvitationStatus, address: &str) {
        until(&format!("{address} being {status:?} is not told"), || {
            let changes = self.changes.lock().unwrap();
            let mut changes = changes.iter();
            changes
                .any(|change| {
                    let invitation = change.invitation.as_ref();
                    change.status.as_ref() == Some(&status)
                        && invitation.is_some_and(|invitation| invitation.email == address)
                })
                .then_some(())
        })
        .await;
    }

    fn count(&self) -> usize {
        self.changes.lock().unwrap().len()
    }
}

async fn invite(ada: &Guildhall, workspace_id: &str, address: &str) -> String {
    let input = invite_member::InviteMemberInput {
        workspace_id: workspace_id.to_owned(),
        email: Some(address.to_owned()),
        user_id: None,
        role: "VIEWER".to_owned(),
        message: None,
        membership_expires_at: None,
    };
    let invited = ada.run::<InviteMember>(invite_member::Variables { input }).await.unwrap().invite_member;
    assert_eq!(invited.user_errors, []);
    invited.invitation.unwrap().id
}

#[tokio::test]
async fn from_the_set_up_link_to_an_accepted_invitation() {
    let url = environment("GUILDHALL_URL");
    let network = Arc::new(Network::default());
    let relay = network.start(url.trim_start_matches("http://").to_owned()).await;
    let ada = Arc::new(Guildhall::new(&url).with_socket_at(&relay));
    let (email, password) = ("ada@example.org".to_owned(), "violet tram under the bridge".to_owned());

    let input = set_up::SetUpInput {
        token: environment("GUILDHALL_SETUP_TOKEN"),
        organization_name: "Analytical Society".to_owned(),
        display_name: "Ada Lovelace".to_owned(),
        email: email.clone(),
        password: password.clone(),
    };
    let variables = set_up::Variables { input };
    let first = ada.run::<SetUp>(variables.clone()).await.unwrap().set_up;
    assert_eq!(first.user_errors, []);
    let second = ada.run::<SetUp>(variables).await.unwrap().set_up;
    assert_eq!(second.user_errors[0].code, set_up::SetUpErrorCode::SETUP_DONE);

    let input = sign_in::SignInInput { email, password, code: None };
    let signed_in = ada.run::<SignIn>(sign_in::Variables { input }).await.unwrap().sign_in;
    assert_eq!(signed_in.user_errors, []);
    let session = signed_in.session.unwrap();
    ada.signed_in(Tokens {
        access_token: session.access_token,
        expires_at: session.expires_at,
        refresh_token: session.refresh_token,
    })
    .await;

    let input = create_workspace::CreateWorkspaceInput {
        display_name: "Malaria Atlas".to_owned(),
        countries: Some(vec!["BJ".to_owned(), "TG".to_owned()]),
        description: None,
        docker_image: None,
        labels: None,
        name: None,
        organization_id: None,
        region: None,
    };
    let made = ada.run::<CreateWorkspace>(create_workspace::Variables { input }).await.unwrap();
    assert_eq!(made.create_workspace.user_errors, []);
    let lab = made.create_workspace.workspace.unwrap();

    let seen = Arc::new(Seen::default());
    let watching = tokio::spawn({
        let (ada, seen, id) = (Arc::clone(&ada), Arc::clone(&seen), lab.id.clone());
        async move {
            let mut changes = Box::pin(ada.watch_invitations(id, Duration::from_millis(100)));
            while let Some(change) = changes.next().await {
                let change = change.unwrap();
                match change.resync_required {
                    true => {
                        seen.reads.fetch_add(1, Ordering::SeqCst);
                    }
                    false => seen.changes.lock().unwrap().push(change),
                }
            }
        }
    });
    let reads = || seen.reads.load(Ordering::SeqCst);
    until("the subscription does not begin", || (reads() == 1).then_some(())).await;

    invite(&ada, &lab.id, "grace@example.org").await;
    seen.told(InvitationStatus::PENDING, "grace@example.org").await;
    let token = token_mailed_to("grace@example.org").await;
    let stranger = Guildhall::new(&url);
    let variables = invitation_by_token::Variables { token: token.clone() };
    let shown = stranger.run::<InvitationByToken>(variables).await.unwrap().invitation_by_token.unwrap();
    assert_eq!(shown.inviter_name, "Ada Lovelace");
    let input = register::RegisterInput {
        token,
        display_name: "Grace Hopper".to_owned(),
        password: "a moth in relay seventy".to_owned(),
    };
    let registered = stranger.run::<Register>(register::Variables { input }).await.unwrap().register;
    assert_eq!(registered.user_errors, []);
    seen.told(InvitationStatus::ACCEPTED, "grace@example.org").await;

    // The network breaks; what happens meanwhile comes when it is back, each change once and in order.
    let before = seen.count();
    network.breaks();
    let missed = invite(&ada, &lab.id, "eve@example.org").await;
    let input = revoke_invitation::RevokeInvitationInput {
        workspace_id: lab.id.clone(),
        invitation_id: missed.clone(),
    };
    let revoked = ada.run::<RevokeInvitation>(revoke_invitation::Variables { input }).await.unwrap();
    assert_eq!(revoked.revoke_invitation.user_errors, []);
    ada.refresh().await.unwrap();
    assert_eq!(seen.count(), before, "something came through a broken network");
    network.comes_back();
    seen.told(InvitationStatus::REVOKED, "eve@example.org").await;
    assert_eq!((reads(), network.connections.load(Ordering::SeqCst)), (1, 2));
    {
        let changes = seen.changes.lock().unwrap();
        let cursors: HashSet<_> = changes.iter().map(|change| &change.cursor).collect();
        assert_eq!(cursors.len(), changes.len(), "a change came twice");
        let of_eve = changes[before..]
            .iter()
            .filter(|change| change.invitation.as_ref().is_some_and(|i| i.id == missed));
        let statuses: Vec<_> = of_eve.filter_map(|change| change.status.clone()).collect();
        assert_eq!(statuses.first(), Some(&InvitationStatus::PENDING));
        assert_eq!(statuses.last(), Some(&InvitationStatus::REVOKED));
    }
    watching.abort();

    // Who is there now, page by page.
    let (mut names, mut after) = (Vec::new(), None);
    loop {
        let variables = workspace::Variables { name: lab.name.clone(), after };
        let members = ada.run::<Workspace>(variables).await.unwrap().workspace.unwrap().members.unwrap();
        names.extend(members.nodes.into_iter().map(|member| match member.principal {
            workspace::WorkspaceWorkspaceMembersNodesPrincipal::User(user) => user.display_name,
        }));
        after = members.page_info.end_cursor;
        if !members.page_info.has_next_page {
            break;
        }
    }
    assert_eq!(names, ["Ada Lovelace", "Grace Hopper"]);
}
