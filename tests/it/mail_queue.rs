//! The mail queue and the worker that empties it, with a way out that does as the test says.
#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::{
    collections::HashSet,
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use guildhall_domain::{
    access::perm,
    ids::MailId,
    invitations::{DeliveryState, InvitationStatus},
    mail::{AccountLetter, InvitationLetter, InvitedWorkspace, Letter},
};
use guildhall_persistence::{
    Db, OpError, Tx,
    events::{self, Topic},
    housekeeping,
    invitations::{self, Invitation},
    mails::{self, ClaimedMail},
};
use guildhall_server::{
    mail::{Mailer, Outgoing, SendError, Templates},
    outbound::Outbound,
    workers::Workers,
};
use guildhall_tests::{both_databases, databases::Engine};
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, sleep, timeout},
};

use crate::outbox::{House, system};

fn letter(to: &str) -> Letter {
    Letter::Invitation(InvitationLetter {
        recipient_email: to.into(),
        inviter_name: "Olga".into(),
        inviter_email: "olga@guild.example".into(),
        organization_name: "Guild".into(),
        organization_role: None,
        workspaces: vec![InvitedWorkspace { display_name: "Guild".into(), role_name: "Viewer".into() }],
        link: "https://guild.example/invitations/secret".into(),
        expires_at: DateTime::UNIX_EPOCH + TimeDelta::days(365_000),
        message: None,
    })
}

fn reset(to: &str, until: DateTime<Utc>) -> Letter {
    Letter::PasswordReset(AccountLetter { recipient_email: to.into(), at: until, ..AccountLetter::default() })
}

impl House {
    async fn enqueue_letter(&self, letter: &Letter) -> MailId {
        let queued = async |tx: &mut Tx<'_>| Ok::<_, OpError<Infallible>>(mails::enqueue(tx, None, letter)?);
        self.db.write(&system(), queued).await.expect("queue a mail")
    }

    async fn enqueue(&self, to: &str) -> MailId {
        self.enqueue_letter(&letter(to)).await
    }

    async fn claim_one(&self) -> ClaimedMail {
        let mut claimed = mails::claim(&self.db, 10).await.expect("claim");
        assert_eq!(claimed.len(), 1);
        claimed.remove(0)
    }

    async fn nothing_is_due(&self) -> bool {
        mails::claim(&self.db, 10).await.expect("claim").is_empty()
    }

    async fn invitation(&self, invitation: &Invitation) -> Invitation {
        let proof = self.grant::<perm::InvitationsView>().await;
        let found = invitations::by_id(&self.db, &proof, invitation.id).await.map_err(|_| "denied");
        found.unwrap().expect("the invitation")
    }

    /// The states that those who watch the workspace were told.
    async fn told(&self) -> Vec<String> {
        let topic = Topic::Workspace(self.workspace);
        let events = events::since(&self.db, &system(), &topic, 0, 100).await.expect("read the log");
        events.into_iter().filter_map(|event| event.state).collect()
    }

    /// How many mails are in that status, and have a body or have none.
    async fn count(&self, status: &str, body: &str) -> u64 {
        self.execute(format!(
            "UPDATE mails SET updated_at = updated_at WHERE status = '{status}' AND sealed IS {body}"
        ))
        .await
    }
}

both_databases!(
    House::start,
    two_claimants_never_take_the_same_mail,
    a_mail_whose_claimant_died_is_due_again_after_the_lease,
    an_acknowledged_mail_shows_in_its_invitation_once,
    a_failing_mail_is_tried_at_growing_distances_until_it_is_given_up,
    a_mail_that_is_refused_for_good_is_given_up_at_once,
    the_mail_of_an_invitation_that_is_revoked_or_sent_again_is_taken_back,
    late_news_of_an_older_mail_are_none_of_the_newer_one,
    an_old_mail_is_forgotten_unless_it_waits,
    a_mail_is_sent_as_soon_as_it_is_queued,
    a_mail_server_that_is_down_loses_nothing_and_gets_nothing_twice,
    nothing_more_is_sent_while_an_acknowledgement_cannot_be_written,
    a_panic_while_sending_is_a_failure_like_any_other,
    stopping_waits_for_the_mails_on_their_way,
    what_is_about_an_account_comes_before_all_invitations,
    a_link_that_is_dead_is_not_sent,
);

async fn two_claimants_never_take_the_same_mail(house: House) {
    for n in 0..40 {
        house.enqueue(&format!("ben{n}@guild.example")).await;
    }
    let neighbour = house.neighbour().await;
    let claimants = [&house.db, &neighbour].repeat(4);
    let claimed = join_all(claimants.into_iter().map(async |db| {
        let mut claimed = Vec::new();
        loop {
            match mails::claim(db, 3).await.expect("claim") {
                mails if mails.is_empty() => return claimed,
                mails => claimed.extend(mails.into_iter().map(|mail| mail.claim.id)),
            }
        }
    }))
    .await;
    let claimed: Vec<MailId> = claimed.into_iter().flatten().collect();
    assert_eq!(claimed.len(), 40);
    assert_eq!(claimed.into_iter().collect::<HashSet<_>>().len(), 40);
}

async fn a_mail_whose_claimant_died_is_due_again_after_the_lease(house: House) {
    let id = house.enqueue("ben@guild.example").await;
    let first = house.claim_one().await;
    assert_eq!((first.claim.id, first.claim.attempt), (id, 1));
    assert_eq!(first.letter.unwrap(), letter("ben@guild.example"));
    assert!(house.nothing_is_due().await);
    house.clock.advance(mails::LEASE);
    let second = house.claim_one().await;
    assert_eq!((second.claim.id, second.claim.attempt), (id, 2));
    // The first lives after all, and its news are stale: the second's attempt goes on.
    mails::fail(&house.db, &first.claim, "lost", false).await.unwrap();
    assert_eq!(house.count("QUEUED", "NOT NULL").await, 1);
    mails::fail(&house.db, &second.claim, "no such mailbox", false).await.unwrap();
    assert_eq!(house.count("FAILED", "NULL").await, 1);
    // That it was accepted is never stale.
    mails::ack(&house.db, &first.claim).await.unwrap();
    assert_eq!(house.count("SENT", "NULL").await, 1);
}

async fn an_acknowledged_mail_shows_in_its_invitation_once(house: House) {
    let invitation = house.invite("ben@guild.example").await;
    assert_eq!(house.invitation(&invitation).await.delivery, DeliveryState::Queued);
    let mail = house.claim_one().await;
    mails::ack(&house.db, &mail.claim).await.unwrap();
    mails::ack(&house.db, &mail.claim).await.unwrap();
    let sent = house.invitation(&invitation).await;
    assert_eq!((sent.delivery, sent.status), (DeliveryState::Sent, InvitationStatus::Pending));
    assert!(sent.sent_at.is_some());
    assert_eq!(house.told().await, ["PENDING", "PENDING"]);
    assert_eq!(house.count("SENT", "NULL").await, 1, "the secret link is gone");
    house.clock.advance(TimeDelta::days(1));
    assert!(house.nothing_is_due().await);
}

async fn a_failing_mail_is_tried_at_growing_distances_until_it_is_given_up(house: House) {
    house.clock.stop();
    let invitation = house.invite("ben@guild.example").await;
    let (mut attempts, mut waited) = (0, TimeDelta::zero());
    while house.count("QUEUED", "NOT NULL").await == 1 {
        let mail = house.claim_one().await;
        attempts += 1;
        assert_eq!(mail.claim.attempt, attempts);
        mails::fail(&house.db, &mail.claim, "450 greylisted", true).await.unwrap();
        let shown = house.invitation(&invitation).await;
        assert_eq!(shown.delivery_error.as_deref(), Some("450 greylisted"));
        if shown.delivery == DeliveryState::Queued {
            let wait = if attempts == 1 { TimeDelta::seconds(3) } else { TimeDelta::seconds(7) };
            house.clock.advance(wait);
            assert!(house.nothing_is_due().await, "attempt {attempts} comes too early");
            house.clock.advance(TimeDelta::minutes(12) - wait);
            waited += TimeDelta::minutes(12);
        }
    }
    assert!(waited >= TimeDelta::hours(48) && waited <= TimeDelta::hours(49), "{waited}");
    assert_eq!(house.invitation(&invitation).await.delivery, DeliveryState::Failed);
    assert_eq!(house.told().await, ["PENDING", "PENDING"], "the failures on the way are not told");
    assert_eq!(house.count("FAILED", "NULL").await, 1);
}

async fn a_mail_that_is_refused_for_good_is_given_up_at_once(house: House) {
    let invitation = house.invite("ben@guild.example").await;
    let mail = house.claim_one().await;
    mails::fail(&house.db, &mail.claim, "550 no such mailbox", false).await.unwrap();
    let failed = house.invitation(&invitation).await;
    assert_eq!(failed.delivery, DeliveryState::Failed);
    assert_eq!(failed.delivery_error.as_deref(), Some("550 no such mailbox"));
    assert_eq!(failed.status, InvitationStatus::Pending, "the link can still be handed over otherwise");
    house.clock.advance(TimeDelta::days(3));
    assert!(house.nothing_is_due().await);
}

async fn the_mail_of_an_invitation_that_is_revoked_or_sent_again_is_taken_back(house: House) {
    let revoked = house.invite("ann@guild.example").await;
    let late = house.claim_one().await;
    let again = house.invite("ben@guild.example").await;
    let older = house.claim_one().await;
    let proof = house.grant::<perm::MembersInvite>().await;
    let answer = invitations::revoke(&house.db, &proof, revoked.id).await.map_err(|_| "refused").unwrap();
    assert_eq!(answer.delivery, DeliveryState::Cancelled);
    assert_eq!(house.invitation(&revoked).await.delivery, DeliveryState::Cancelled);
    assert!(invitations::resend(&house.db, &proof, again.id, None).await.is_ok());
    assert_eq!(house.count("CANCELLED", "NULL").await, 2);
    assert_eq!(house.count("QUEUED", "NOT NULL").await, 1, "the one that was sent again");
    // They were on their way when they were taken back. The mail server took them all the same: of the invitation that
    // was sent again that says nothing.
    mails::ack(&house.db, &late.claim).await.unwrap();
    mails::ack(&house.db, &older.claim).await.unwrap();
    let (revoked, again) = (house.invitation(&revoked).await, house.invitation(&again).await);
    assert_eq!((revoked.status, revoked.delivery), (InvitationStatus::Revoked, DeliveryState::Sent));
    assert_eq!((again.delivery, again.sent_at), (DeliveryState::Queued, None));
    assert_eq!(house.count("CANCELLED", "NULL").await, 1);
}

async fn late_news_of_an_older_mail_are_none_of_the_newer_one(house: House) {
    let invitation = house.invite("ben@guild.example").await;
    let first = house.claim_one().await;
    house.clock.advance(mails::LEASE);
    let second = house.claim_one().await;
    mails::fail(&house.db, &second.claim, "550 no such mailbox", false).await.unwrap();
    let proof = house.grant::<perm::MembersInvite>().await;
    assert!(invitations::resend(&house.db, &proof, invitation.id, None).await.is_ok());
    // The first claimant had sent it all the same; its link is dead by now.
    mails::ack(&house.db, &first.claim).await.unwrap();
    let shown = house.invitation(&invitation).await;
    assert_eq!((shown.delivery, shown.sent_at), (DeliveryState::Queued, None));
    assert_eq!(house.count("FAILED", "NULL").await, 1);
}

async fn an_old_mail_is_forgotten_unless_it_waits(house: House) {
    house.enqueue("ann@guild.example").await;
    let mail = house.claim_one().await;
    mails::ack(&house.db, &mail.claim).await.unwrap();
    house.enqueue("ben@guild.example").await;
    house.clock.advance(TimeDelta::days(29));
    assert_eq!(housekeeping::sweep(&house.db).await.unwrap().mails, 0);
    house.clock.advance(TimeDelta::days(2));
    assert_eq!(housekeeping::sweep(&house.db).await.unwrap().mails, 1);
    assert_eq!(house.count("QUEUED", "NOT NULL").await, 1);
}

async fn what_is_about_an_account_comes_before_all_invitations(house: House) {
    for n in 0..3 {
        house.invite(&format!("guest{n}@guild.example")).await;
    }
    house.clock.advance(TimeDelta::seconds(1));
    let later =
        house.enqueue_letter(&reset("ann@guild.example", house.db.now() + TimeDelta::minutes(30))).await;
    let mail = mails::claim(&house.db, 1).await.expect("claim").remove(0);
    assert_eq!(mail.claim.id, later);
    let rest = mails::claim(&house.db, 10).await.expect("claim");
    assert_eq!(rest.len(), 3);
}

async fn a_link_that_is_dead_is_not_sent(house: House) {
    let soon = house.db.now() + TimeDelta::minutes(30);
    house.enqueue_letter(&reset("ann@guild.example", soon)).await;
    house.clock.advance(TimeDelta::minutes(31));
    let outlet = Outlet::new();
    let workers = outlet.work_for(&house.db);
    eventually("it is given up", async || house.count("FAILED", "NULL").await == 1).await;
    assert!(outlet.taken().is_empty());
    workers.stop().await;
}

/// A way out that keeps what it is given and answers as told.
struct Outlet {
    taken: Mutex<Vec<String>>,
    tries: Semaphore,
    is_down: AtomicBool,
    is_slow: AtomicBool,
    released: Notify,
}

impl Outlet {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            taken: Mutex::default(),
            tries: Semaphore::new(0),
            is_down: AtomicBool::new(false),
            is_slow: AtomicBool::new(false),
            released: Notify::new(),
        })
    }

    fn taken(&self) -> Vec<String> {
        let mut taken = self.taken.lock().unwrap().clone();
        taken.sort();
        taken
    }

    /// Waits until it was used that many more times.
    async fn used(&self, times: u32) {
        let tries = timeout(Duration::from_secs(20), self.tries.acquire_many(times)).await;
        tries.expect("mails are sent").expect("open").forget();
    }

    fn work_for(self: &Arc<Self>, db: &Db) -> Workers {
        let templates = Arc::new(Templates::load("Guildhall", None).expect("the built-in templates"));
        let nowhere = Arc::new(Outbound::new(Vec::new(), None).expect("the built-in certificates"));
        Workers::start(db, Arc::clone(self) as _, templates, nowhere)
    }
}

#[async_trait]
impl Mailer for Outlet {
    async fn send(&self, mail: &Outgoing) -> Result<(), SendError> {
        self.tries.add_permits(1);
        assert!(!mail.to.starts_with("bug"), "a bug in the mailer");
        if self.is_slow.load(Ordering::SeqCst) {
            self.released.notified().await;
        }
        if self.is_down.load(Ordering::SeqCst) {
            return Err(SendError::Transient("connection refused".into()));
        }
        self.taken.lock().unwrap().push(mail.to.clone());
        Ok(())
    }
}

/// Waits until `is_so`, at most ten seconds.
async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn a_mail_is_sent_as_soon_as_it_is_queued(house: House) {
    let outlet = Outlet::new();
    let workers = outlet.work_for(&house.db);
    sleep(Duration::from_millis(300)).await;
    let mut waits = Vec::new();
    for n in 0..5 {
        let invitation = house.invite(&format!("ben{n}@guild.example")).await;
        let queued = Instant::now();
        outlet.used(1).await;
        waits.push(queued.elapsed());
        eventually("it is shown as sent", async || {
            house.invitation(&invitation).await.delivery == DeliveryState::Sent
        })
        .await;
    }
    waits.sort();
    println!("from the commit to the mail server: {waits:?}");
    assert!(waits[2] < Duration::from_millis(300), "{waits:?}");
    workers.stop().await;
}

async fn a_mail_server_that_is_down_loses_nothing_and_gets_nothing_twice(house: House) {
    let outlet = Outlet::new();
    outlet.is_down.store(true, Ordering::SeqCst);
    let workers = outlet.work_for(&house.db);
    let expected: Vec<String> = (0..12).map(|n| format!("ben{n:02}@guild.example")).collect();
    for to in &expected {
        house.enqueue(to).await;
    }
    outlet.used(12).await;
    // An hour, in which every mail is tried five times. Each writes down how it failed, and is not under way any more.
    let untried = "UPDATE mails SET updated_at = updated_at WHERE status = 'QUEUED' AND last_error IS NULL";
    eventually("all were tried", async || house.execute(untried).await == 0).await;
    for _ in 0..5 {
        assert_eq!(house.execute("UPDATE mails SET last_error = NULL").await, 12);
        house.clock.advance(TimeDelta::minutes(12));
        eventually("all were tried again", async || house.execute(untried).await == 0).await;
    }
    assert_eq!(outlet.taken(), [""; 0]);
    outlet.is_down.store(false, Ordering::SeqCst);
    house.clock.advance(TimeDelta::minutes(12));
    eventually("all are sent", async || outlet.taken().len() >= 12).await;
    eventually("all are acknowledged", async || house.count("SENT", "NULL").await == 12).await;
    house.clock.advance(TimeDelta::hours(3));
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(outlet.taken(), expected);
    workers.stop().await;
}

async fn nothing_more_is_sent_while_an_acknowledgement_cannot_be_written(house: House) {
    let outlet = Outlet::new();
    outlet.is_slow.store(true, Ordering::SeqCst);
    let workers = outlet.work_for(&house.db);
    let first = house.invite("ann@guild.example").await;
    outlet.used(1).await;
    let trouble = match house.database.engine() {
        Engine::Postgres => "ALTER TABLE invitations ADD CONSTRAINT trouble CHECK (delivery <> 'SENT')",
        Engine::Sqlite => {
            "CREATE TRIGGER trouble BEFORE UPDATE ON invitations BEGIN SELECT RAISE(ABORT, 'trouble'); END"
        }
    };
    house.execute(trouble).await;
    outlet.is_slow.store(false, Ordering::SeqCst);
    outlet.released.notify_one();
    eventually("the first is taken", async || outlet.taken().len() == 1).await;
    house.enqueue("ben@guild.example").await;
    house.clock.advance(mails::LEASE * 2);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(outlet.taken(), ["ann@guild.example"]);
    let relief = match house.database.engine() {
        Engine::Postgres => "ALTER TABLE invitations DROP CONSTRAINT trouble",
        Engine::Sqlite => "DROP TRIGGER trouble",
    };
    house.execute(relief).await;
    eventually("both are acknowledged", async || house.count("SENT", "NULL").await == 2).await;
    assert_eq!(outlet.taken(), ["ann@guild.example", "ben@guild.example"]);
    assert_eq!(house.invitation(&first).await.delivery, DeliveryState::Sent);
    workers.stop().await;
}

async fn a_panic_while_sending_is_a_failure_like_any_other(house: House) {
    let outlet = Outlet::new();
    let workers = outlet.work_for(&house.db);
    house.enqueue("bug@guild.example").await;
    house.enqueue("ben@guild.example").await;
    outlet.used(2).await;
    eventually("the other is sent", async || house.count("SENT", "NULL").await == 1).await;
    house.clock.advance(TimeDelta::seconds(10));
    outlet.used(1).await;
    assert_eq!(house.count("QUEUED", "NOT NULL").await, 1);
    workers.stop().await;
}

async fn stopping_waits_for_the_mails_on_their_way(house: House) {
    let outlet = Outlet::new();
    outlet.is_slow.store(true, Ordering::SeqCst);
    let workers = outlet.work_for(&house.db);
    house.enqueue("ann@guild.example").await;
    outlet.used(1).await;
    // Told to stop, before there is another mail.
    let mut stopping = std::pin::pin!(workers.stop());
    assert!(futures_util::poll!(&mut stopping).is_pending());
    house.enqueue("ben@guild.example").await;
    assert!(timeout(Duration::from_millis(1200), &mut stopping).await.is_err());
    outlet.released.notify_one();
    timeout(Duration::from_secs(2), stopping).await.expect("it stops");
    assert_eq!(house.count("SENT", "NULL").await, 1);
    assert_eq!(outlet.taken(), ["ann@guild.example"], "no new one is taken");
    assert_eq!(house.count("QUEUED", "NOT NULL").await, 1);
}
