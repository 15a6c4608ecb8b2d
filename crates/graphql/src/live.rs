//! What subscriptions share: following a topic of the event log without gaps, and asking again, for each
//! event, whether the subscriber may still see it.
//!
//! A thousand people who watch one workspace with one document and the same rights get the same answer to
//! an event, so a transport may have it made once. It puts a [`Handoff`] beside the request; the resolver
//! checks the subscriber and leaves the [`Watch`] there instead of streaming. The transport follows the watch
//! for each subscriber, and executes the document once for all of them with the [`Turn`] beside it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_graphql::{
    Context, Error, ID, Result,
    dataloader::{DataLoader, Loader, NoCache},
    runtime::{TokioSpawner, TokioTimer},
};
use async_stream::stream;
use futures_util::{Stream, StreamExt, stream::BoxStream};
use guildhall_domain::{
    access::{
        Actor, Denied, Granted, LetIn, Permission, PermissionSet, Proof, WorkspaceAccess,
        catalog::PermissionType,
    },
    events::{EventKind, Recorded},
    ids::WorkspaceId,
};
use guildhall_persistence::{
    Db, Fault, ReadError,
    events::{self, Topic},
    sessions::Device,
};

use crate::{
    authz::{Caller, authorize_in, db, let_in},
    error,
};

/// How many missed events are sent again before a subscriber is told to read everything anew.
const REPLAY_LIMIT: u32 = 1000;

/// Something to tell a subscriber.
#[derive(Clone, Debug)]
pub(crate) enum Occurrence {
    /// It happened just now.
    Event(Arc<Recorded>),
    /// It happened while the subscriber was not listening.
    Missed(Arc<Recorded>),
    /// Events are missing that cannot be sent again; the cursor to go on from.
    Resync(i64),
    /// The subscriber's rights are to be asked again: what was told aside may have come before anybody listened, or is lost.
    Recheck,
}

/// The cursor of an event, for `after`.
pub(crate) fn cursor(seq: i64) -> String {
    format!("e{seq:x}")
}

/// What `now` reads as: a place that no log reaches, so that a follower is told at once where to go on from.
pub(crate) const NOW: i64 = i64::MAX;

/// Reads a cursor.
pub(crate) fn read_cursor(text: &str) -> Result<i64> {
    if text == "now" {
        return Ok(NOW);
    }
    text.strip_prefix('e')
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .and_then(|digits| i64::from_str_radix(digits, 16).ok())
        .ok_or_else(|| error::bad_input("`after` is not a cursor of this subscription."))
}

/// The events of `topic` from `after` on, those of that `kind` each once and in order, together with those of `aside`,
/// which tell that the subscriber's rights are to be asked again.
pub(crate) fn follow(
    db: Db,
    proof: impl Proof + Copy + 'static,
    topic: Topic,
    aside: Option<Topic>,
    kind: EventKind,
    after: Option<i64>,
) -> impl Stream<Item = Result<Occurrence, Fault>> + Send + 'static {
    stream! {
        // Listening begins before reading, so that nothing falls between the two.
        let mut feed = db.bus().subscribe(&[Some(topic.clone()), aside].into_iter().flatten().collect::<Vec<_>>());
        let mut last = match after {
            Some(after) => after,
            None => match events::newest(&db, &proof, &topic).await {
                Ok(newest) => newest,
                Err(fault) => {
                    yield Err(fault);
                    return;
                }
            },
        };
        yield Ok(Occurrence::Recheck);
        let mut behind = after.is_some();
        loop {
            if behind {
                behind = false;
                let read = async {
                    let missed = events::since(&db, &proof, &topic, last, REPLAY_LIMIT).await?;
                    // Asked second, so that what is pruned in between is noticed.
                    let complete = events::extent(&db, &proof).await?.reaches(last)
                        && missed.len() < REPLAY_LIMIT as usize;
                    match complete {
                        true => Ok(Ok(missed)),
                        false => events::newest(&db, &proof, &topic).await.map(Err),
                    }
                };
                match read.await {
                    Ok(Ok(missed)) => {
                        for event in missed {
                            last = event.seq;
                            yield Ok(Occurrence::Missed(Arc::new(event)));
                        }
                    }
                    Ok(Err(newest)) => {
                        last = newest;
                        yield Ok(Occurrence::Resync(last));
                    }
                    Err(fault) => {
                        yield Err(fault);
                        return;
                    }
                }
            }
            match feed.next().await {
                Ok(event) if event.kind == kind => {
                    if event.seq > last {
                        last = event.seq;
                        yield Ok(Occurrence::Event(event));
                    }
                }
                Ok(event) => yield Ok(Occurrence::Event(event)),
                Err(events::Lagged) => {
                    behind = true;
                    yield Ok(Occurrence::Recheck);
                }
            }
        }
    }
}

/// What a subscriber to a workspace is told next.
#[derive(Clone)]
pub struct Turn(pub(crate) Told);

#[derive(Clone)]
pub(crate) enum Told {
    /// It happened, and the subscriber, who has these rights, may see it. Whether it was missed when it happened.
    Event { event: Arc<Recorded>, access: Arc<WorkspaceAccess>, missed: bool },
    /// Changes are missing that cannot be sent again.
    Resync(i64),
}

/// Why a subscription ends.
#[derive(Debug)]
pub struct Ended(Arc<ReadError>);

impl Turn {
    /// What decides, beside the document, what the answer is: the same for those who get the same answer.
    /// The types that a workspace's events lead to ask for rights and never for who asks. `None` where the answer
    /// is one subscriber's own: what was missed is told with what it is about as that is now, which others were
    /// told as it was then; and what happened to the workspace itself, which leads to the subscriber's own place in it.
    pub fn key(&self) -> Option<(i64, PermissionSet)> {
        match &self.0 {
            Told::Event { missed: true, .. } => None,
            // Through a workspace or a credential one comes to what only the asker sees.
            Told::Event { event, .. } if event.kind != EventKind::Invitation => None,
            Told::Event { event, access, .. } => Some((event.seq, access.permissions())),
            Told::Resync(seq) => Some((*seq, PermissionSet::EMPTY)),
        }
    }
}

impl Turn {
    /// On whose behalf the answer is made: nobody's where it is made for many.
    pub fn caller(&self) -> Caller {
        let actor = match &self.0 {
            Told::Event { access, .. } if self.key().is_none() => Some(access.actor()),
            _ => None,
        };
        Caller { actor, device: Device::default() }
    }
}

impl Ended {
    /// The error that tells the subscriber.
    pub fn error(&self) -> Error {
        match &*self.0 {
            ReadError::Denied(denied) => error::denied(*denied),
            ReadError::Fault(_) => {
                error::coded("INTERNAL", "Something went wrong here. Subscribe again from your last cursor.")
            }
        }
    }

    /// What failed, for the log: it is not said to the subscriber.
    pub fn fault(&self) -> Option<&Fault> {
        match &*self.0 {
            ReadError::Denied(_) => None,
            ReadError::Fault(fault) => Some(fault),
        }
    }
}

impl From<Denied> for Ended {
    fn from(denied: Denied) -> Self {
        Self(Arc::new(denied.into()))
    }
}

/// A subscriber to the events of a workspace, checked.
pub struct Watch {
    pub(crate) subscriber: LetIn,
    pub(crate) workspace: WorkspaceId,
    /// The kind of events that the subscriber is told.
    pub(crate) kind: EventKind,
    pub(crate) after: Option<i64>,
    /// What the subscriber must hold to be told.
    pub(crate) needs: Permission,
    pub(crate) db: Db,
    pub(crate) rechecks: Arc<Rechecks>,
}

impl Watch {
    /// What the subscriber is told, until they may not be told any more.
    pub fn turns(self) -> impl Stream<Item = Result<Turn, Ended>> + Send + 'static {
        stream! {
            let Self { subscriber, workspace, kind, after, needs, db, rechecks } = self;
            let actor = subscriber.actor();
            let (topic, aside) = (Topic::Workspace(workspace), actor.person().map(Topic::User));
            let followed = follow(db, subscriber, topic, aside, kind, after);
            futures_util::pin_mut!(followed);
            while let Some(occurrence) = followed.next().await {
                let occurrence = match occurrence {
                    Ok(occurrence) => occurrence,
                    Err(fault) => {
                        yield Err(Ended(Arc::new(fault.into())));
                        return;
                    }
                };
                // Another kind of news, or somebody else's rights changed: none of this subscriber's business.
                if let Occurrence::Event(event) | Occurrence::Missed(event) = &occurrence
                    && event.kind != kind && !event.concerns(actor) && !event.ends_a_workspace()
                {
                    continue;
                }
                match rechecks.access(actor, workspace).await {
                    Ok(access) if access.permissions().holds(needs) => {
                        let told = match occurrence {
                            Occurrence::Event(event) if event.kind == kind => {
                                Told::Event { event, access, missed: false }
                            }
                            Occurrence::Missed(event) if event.kind == kind => {
                                Told::Event { event, access, missed: true }
                            }
                            Occurrence::Resync(seq) => Told::Resync(seq),
                            Occurrence::Event(_) | Occurrence::Missed(_) | Occurrence::Recheck => continue,
                        };
                        yield Ok(Turn(told));
                    }
                    Ok(_) => {
                        yield Err(Denied::Forbidden(needs).into());
                        return;
                    }
                    Err(fault) => {
                        yield Err(Ended(fault));
                        return;
                    }
                }
            }
        }
    }
}

/// Who follows a subscription's events.
pub(crate) enum Watching {
    /// The transport, for many subscribers.
    HandedOver,
    /// Nobody: this is the answer to one event, for all who get the same.
    One(Turn),
    /// The resolver itself.
    Here(BoxStream<'static, Result<Turn, Ended>>),
}

impl Watching {
    /// A subscriber to the events of that kind in the workspace, who needs `P` to be told.
    pub(crate) async fn of<P: PermissionType<Access = WorkspaceAccess>>(
        ctx: &Context<'_>,
        workspace: &ID,
        kind: EventKind,
        after: Option<&str>,
    ) -> Result<Self> {
        if let Some(turn) = ctx.data_opt::<Turn>() {
            return Ok(Self::One(turn.clone()));
        }
        let proof: Granted<P> = authorize_in(ctx, workspace).await?;
        let watch = Watch {
            subscriber: let_in(ctx).await?,
            workspace: proof.access().workspace(),
            kind,
            after: after.map(read_cursor).transpose()?,
            needs: P::PERMISSION,
            db: db(ctx).clone(),
            rechecks: Arc::clone(ctx.data_unchecked::<Arc<Rechecks>>()),
        };
        Ok(match ctx.data_opt::<Handoff>() {
            Some(handoff) => {
                handoff.leave(watch);
                Self::HandedOver
            }
            None => Self::Here(Box::pin(watch.turns())),
        })
    }

    /// The stream of a subscription, whose answer to each turn `answer` makes.
    pub(crate) fn answers<'a, T: Send + 'a, F: Future<Output = Result<T>> + Send + 'a>(
        self,
        answer: impl Fn(Turn) -> F + Send + 'a,
    ) -> impl Stream<Item = Result<T>> + Send + 'a {
        stream! {
            match self {
                Self::HandedOver => {}
                Self::One(turn) => yield answer(turn).await,
                Self::Here(mut turns) => {
                    while let Some(turn) = turns.next().await {
                        yield match turn {
                            Ok(turn) => answer(turn).await,
                            Err(ended) => Err(ended.error()),
                        };
                    }
                }
            }
        }
    }
}

/// Where a resolver leaves its subscriber for the transport.
#[derive(Clone, Default)]
pub struct Handoff(Arc<Mutex<Option<Watch>>>);

impl Handoff {
    /// The subscriber, if the resolver left one.
    pub fn take(&self) -> Option<Watch> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn leave(&self, watch: Watch) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(watch);
    }
}

/// Asks for the rights of many subscribers at once.
pub(crate) struct Rechecks(DataLoader<Accesses, NoCache>);

impl Rechecks {
    pub(crate) fn new(db: &Db) -> Self {
        let loader = DataLoader::new(Accesses(db.clone()), TokioSpawner::current(), TokioTimer::default());
        Self(loader.delay(Duration::ZERO))
    }

    /// The actor's rights in the workspace now. All subscribers that one event wakes share a statement.
    pub(crate) async fn access(
        &self,
        actor: Actor,
        workspace: WorkspaceId,
    ) -> Result<Arc<WorkspaceAccess>, ReadFault> {
        let access = self.0.load_one((workspace, actor)).await?;
        access.unwrap_or(Err(Denied::SignedOut)).map_err(|denied| Arc::new(denied.into()))
    }
}

type ReadFault = Arc<ReadError>;

struct Accesses(Db);

impl Loader<(WorkspaceId, Actor)> for Accesses {
    type Value = Result<Arc<WorkspaceAccess>, Denied>;
    type Error = ReadFault;

    async fn load(
        &self,
        keys: &[(WorkspaceId, Actor)],
    ) -> Result<HashMap<(WorkspaceId, Actor), Self::Value>, ReadFault> {
        let mut by_workspace: HashMap<WorkspaceId, Vec<Actor>> = HashMap::new();
        for (workspace, actor) in keys {
            by_workspace.entry(*workspace).or_default().push(*actor);
        }
        let mut found = HashMap::with_capacity(keys.len());
        for (workspace, actors) in by_workspace {
            let accesses = self.0.accesses(workspace, &actors).await?;
            found.extend(accesses.into_iter().map(|(actor, access)| ((workspace, actor), access)));
        }
        Ok(found)
    }
}
