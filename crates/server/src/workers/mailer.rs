//! The mailer: takes mails from the queue, renders them, hands them over and writes down what became of them.
//! Knows in which order that is safe; refuses to know SMTP and SQL. No database connection is held meanwhile.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use guildhall_domain::mail::Letter;
use guildhall_persistence::{
    Db, Fault,
    mails::{self, Claim, ClaimedMail},
};
use tokio::{
    task::{Id, JoinError, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::mail::{Mailer, Outgoing, SendError, Templates};

/// How many mails are on their way at once.
const AT_ONCE: usize = 4;
/// How often the queue is looked at without being told to: retries come due, and other processes queue too.
const POLL: Duration = Duration::from_secs(1);
/// How long mails that are on their way have when the process stops.
const GRACE: Duration = Duration::from_secs(10);
/// The waits between attempts to write down what became of a mail.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Sends mail until told to stop. Then it takes no more, and finishes what is on its way.
pub(super) async fn run(db: Db, mailer: Arc<dyn Mailer>, templates: Arc<Templates>, stop: CancellationToken) {
    let grace_is_over = async {
        stop.cancelled().await;
        sleep(GRACE).await;
    };
    tokio::select! {
        () = work(&db, &mailer, &templates, &stop) => {}
        () = grace_is_over => {
            tracing::error!("stopped with mails on their way: they are sent, perhaps again, after the next start");
        }
    }
}

async fn work(db: &Db, mailer: &Arc<dyn Mailer>, templates: &Arc<Templates>, stop: &CancellationToken) {
    let mut under_way = UnderWay::default();
    let mut failing = false;
    loop {
        let free = AT_ONCE - under_way.claims.len();
        if free > 0 && !stop.is_cancelled() {
            match mails::claim(db, free).await {
                Ok(mails) => {
                    failing = false;
                    mails.into_iter().for_each(|mail| under_way.send(mail, db.now(), mailer, templates));
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "the mail queue cannot be read; trying again each second");
                    }
                }
            }
        }
        if stop.is_cancelled() && under_way.claims.is_empty() {
            return;
        }
        let has_room = under_way.claims.len() < AT_ONCE && !stop.is_cancelled();
        tokio::select! {
            Some((claim, sent)) = under_way.next() => {
                settle(db, &claim, sent).await;
                // All that are done, before anything else is taken: what was sent must not be sent again.
                while let Some((claim, sent)) = under_way.next_done() {
                    settle(db, &claim, sent).await;
                }
            }
            () = db.bus().mail_waits(), if has_room => {}
            () = sleep(POLL), if has_room => {}
            () = stop.cancelled(), if !stop.is_cancelled() => {}
        }
    }
}

/// The mails on their way. Each has a task, which goes on while the outcome of another is written down.
#[derive(Default)]
struct UnderWay {
    tasks: JoinSet<Result<(), SendError>>,
    claims: HashMap<Id, Claim>,
}

impl UnderWay {
    fn send(
        &mut self,
        mail: ClaimedMail,
        now: DateTime<Utc>,
        mailer: &Arc<dyn Mailer>,
        templates: &Arc<Templates>,
    ) {
        let ClaimedMail { claim, letter } = mail;
        let (mailer, templates) = (Arc::clone(mailer), Arc::clone(templates));
        let task = self.tasks.spawn(async move {
            let outgoing = render(&claim, now, letter, &templates)?;
            // A little shorter than the lease: then somebody else may be at it.
            let patience = (mails::LEASE * 9 / 10).to_std().unwrap_or_default();
            match timeout(patience, mailer.send(&outgoing)).await {
                Ok(sent) => sent,
                Err(_) => Err(SendError::Transient("The mail server took too long.".to_owned())),
            }
        });
        self.claims.insert(task.id(), claim);
    }

    async fn next(&mut self) -> Option<(Claim, Result<(), SendError>)> {
        let done = self.tasks.join_next_with_id().await?;
        self.outcome(done)
    }

    fn next_done(&mut self) -> Option<(Claim, Result<(), SendError>)> {
        let done = self.tasks.try_join_next_with_id()?;
        self.outcome(done)
    }

    fn outcome(
        &mut self,
        done: Result<(Id, Result<(), SendError>), JoinError>,
    ) -> Option<(Claim, Result<(), SendError>)> {
        let (task, sent) = done.unwrap_or_else(|error| {
            tracing::error!(%error, "sending a mail broke down");
            (error.id(), Err(SendError::Transient("The server failed to send the mail.".to_owned())))
        });
        Some((self.claims.remove(&task)?, sent))
    }
}

fn render(
    claim: &Claim,
    now: DateTime<Utc>,
    letter: Result<Letter, Fault>,
    templates: &Templates,
) -> Result<Outgoing, SendError> {
    let id = claim.id;
    let letter = letter.map_err(|error| {
        tracing::error!(%error, mail = %id, "a queued mail cannot be read");
        SendError::Transient("The server cannot read the mail it has to send.".to_owned())
    })?;
    if letter.expires_at().is_some_and(|end| end <= now) {
        let why = match letter {
            Letter::Invitation(_) => {
                "The invitation expired before the mail server took its mail. Send it again."
            }
            _ => "The link expired before the mail server took its mail.",
        };
        return Err(SendError::Permanent(why.to_owned()));
    }
    let content = templates.render(&letter).map_err(|error| {
        tracing::error!(%error, mail = %id, "a mail cannot be rendered");
        SendError::Permanent("The server's template for this mail is faulty.".to_owned())
    })?;
    Ok(Outgoing { id: id.uuid(), date: claim.queued_at, to: letter.recipient().to_owned(), content })
}

/// Writes down what became of a mail, however long the database is away.
async fn settle(db: &Db, claim: &Claim, sent: Result<(), SendError>) {
    let (mail, attempt) = (claim.id, claim.attempt);
    match &sent {
        Ok(()) => tracing::info!(%mail, attempt, "mail sent"),
        Err(error) => {
            tracing::warn!(%mail, attempt, %error, transient = error.is_transient(), "mail not sent")
        }
    }
    let mut wait = FIRST_WAIT;
    loop {
        let written = match &sent {
            Ok(()) => mails::ack(db, claim).await,
            Err(error) => mails::fail(db, claim, &error.to_string(), error.is_transient()).await,
        };
        let Err(error) = written else { return };
        tracing::warn!(%error, %mail, "cannot write down what became of a mail; trying again");
        sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}
