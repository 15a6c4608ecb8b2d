//! Telling those in this process who watch. Knows topics and feeds; refuses to know where events come from.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use guildhall_domain::{
    events::Recorded,
    ids::{OrganizationId, UserId, WorkspaceId},
};
use tokio::sync::Notify;

/// How many events wait for a subscriber before it is told that it lagged. Above the 100 of an
/// invitation of that many people; a change of a role that more hold lets those who watch read again.
const INBOX: usize = 128;

/// What can be watched. An event belongs to the topic of each workspace, address and person that it names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Everything in a workspace.
    Workspace(WorkspaceId),
    /// The invitations to an e-mail address.
    Email(String),
    /// A person's sessions and rights.
    User(UserId),
    /// The growth of an organization's audit log.
    Audit(OrganizationId),
    /// The whole log, for the service's own tasks. What is missed of it is not read again: who lags looks at everything.
    Everything,
}

/// A subscriber was too slow, or subscribed before this process had found its place in the log: events are
/// missing from the feed, and are to be read with [`since`](super::since).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lagged;

/// Where events arrive in this process, and where it is said that there is something to fetch.
#[derive(Default)]
pub struct Bus {
    topics: Arc<Topics>,
    announced: Notify,
    mail_written: AtomicBool,
    mail_waits: Notify,
    audit_written: Notify,
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus").field("topics", &lock(&self.topics.0).len()).finish_non_exhaustive()
    }
}

impl Bus {
    /// A feed of the events that belong to any of `topics`, from now on.
    pub fn subscribe(&self, topics: &[Topic]) -> Feed {
        let inbox = Arc::new(Inbox::default());
        let mut map = lock(&self.topics.0);
        for topic in topics {
            map.entry(topic.clone()).or_default().push(Arc::clone(&inbox));
        }
        Feed { watched: topics.to_vec(), inbox, topics: Arc::clone(&self.topics) }
    }

    /// Says that a transaction with events was committed.
    pub(crate) fn announce(&self) {
        self.announced.notify_one();
        if self.mail_written.swap(false, Ordering::Relaxed) {
            self.mail_waits.notify_one();
        }
    }

    /// Resolves when something was announced since it last did.
    pub(crate) async fn announced(&self) {
        self.announced.notified().await;
    }

    /// Says that a transaction has a mail in it; the next announcement wakes the mailer. Where another
    /// transaction's comes first the mailer looks too early, and finds the mail when it looks by itself.
    pub(crate) fn mail_written(&self) {
        self.mail_written.store(true, Ordering::Relaxed);
    }

    /// Resolves when this process may have committed a mail to send since it last did.
    pub async fn mail_waits(&self) {
        self.mail_waits.notified().await;
    }

    /// Says that a transaction with entries of the audit log was committed.
    pub(crate) fn audit_written(&self) {
        self.audit_written.notify_one();
    }

    /// Resolves when this process has committed entries of the audit log since it last did.
    pub async fn audit_grows(&self) {
        self.audit_written.notified().await;
    }

    /// Hands an event to everyone who watches one of its topics. To be called in the order of the log.
    pub(crate) fn publish(&self, event: Recorded) {
        let topics = [
            event.workspace.map(Topic::Workspace),
            event.email.clone().map(Topic::Email),
            event.user.map(Topic::User),
            event.audited().map(Topic::Audit),
            Some(Topic::Everything),
        ];
        let event = Arc::new(event);
        let map = lock(&self.topics.0);
        for inbox in topics.iter().flatten().filter_map(|topic| map.get(topic)).flatten() {
            inbox.push(&event);
        }
    }

    /// Tells every subscriber that it may have missed events.
    pub(crate) fn lag_all(&self) {
        let map = lock(&self.topics.0);
        // Each once, although it may stand under several topics: it may be reading again already.
        let mut told = HashSet::new();
        for inbox in map.values().flatten().filter(|inbox| told.insert(Arc::as_ptr(inbox))) {
            inbox.lag();
        }
    }
}

/// Who watches what. A topic that nobody watches is not in it.
#[derive(Default)]
struct Topics(Mutex<HashMap<Topic, Vec<Arc<Inbox>>>>);

/// What waits for one subscriber.
#[derive(Default)]
struct Inbox {
    queue: Mutex<Queue>,
    filled: Notify,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Arc<Recorded>>,
    /// What was put in last, since one event may belong to two of the subscriber's topics.
    last: Option<i64>,
    lagged: bool,
}

impl Inbox {
    fn push(&self, event: &Arc<Recorded>) {
        let mut queue = lock(&self.queue);
        if queue.lagged || queue.last == Some(event.seq) {
            return;
        }
        if queue.waiting.len() == INBOX {
            drop(queue);
            return self.lag();
        }
        queue.last = Some(event.seq);
        queue.waiting.push_back(Arc::clone(event));
        drop(queue);
        self.filled.notify_one();
    }

    /// The subscriber reads again from its cursor, so what waits for it is of no more use.
    fn lag(&self) {
        let mut queue = lock(&self.queue);
        queue.waiting = VecDeque::new();
        queue.lagged = true;
        drop(queue);
        self.filled.notify_one();
    }
}

/// The events that one subscriber watches, each once: those of a workspace in the order of the log, and on
/// PostgreSQL those of different workspaces nearly so. Ends its subscription when it is dropped.
pub struct Feed {
    watched: Vec<Topic>,
    inbox: Arc<Inbox>,
    topics: Arc<Topics>,
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("watched", &self.watched).finish_non_exhaustive()
    }
}

impl Feed {
    /// The next event. Nothing is lost when the future is dropped early; after [`Lagged`] the feed goes on.
    pub async fn next(&mut self) -> Result<Arc<Recorded>, Lagged> {
        loop {
            if let Some(next) = self.try_next() {
                return next;
            }
            self.inbox.filled.notified().await;
        }
    }

    /// The next event if it is there already.
    pub fn try_next(&mut self) -> Option<Result<Arc<Recorded>, Lagged>> {
        let mut queue = lock(&self.inbox.queue);
        if std::mem::take(&mut queue.lagged) {
            return Some(Err(Lagged));
        }
        queue.waiting.pop_front().map(Ok)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let mut map = lock(&self.topics.0);
        for topic in &self.watched {
            let Some(inboxes) = map.get_mut(topic) else { continue };
            inboxes.retain(|inbox| !Arc::ptr_eq(inbox, &self.inbox));
            if inboxes.is_empty() {
                map.remove(topic);
            }
        }
    }
}

/// What these locks guard is whole at every step, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use guildhall_domain::events::EventKind;
    use uuid::Uuid;

    use super::*;

    fn event(seq: i64, workspace: u128, email: &str) -> Recorded {
        Recorded {
            seq,
            kind: EventKind::Invitation,
            workspace: Some(Uuid::from_u128(workspace).into()),
            user: None,
            email: Some(email.to_owned()),
            subject: None,
            state: Some("PENDING".to_owned()),
            at: DateTime::UNIX_EPOCH,
        }
    }

    fn workspace(id: u128) -> Topic {
        Topic::Workspace(Uuid::from_u128(id).into())
    }

    fn seqs(feed: &mut Feed) -> Vec<Result<i64, Lagged>> {
        std::iter::from_fn(|| feed.try_next()).map(|next| next.map(|event| event.seq)).collect()
    }

    #[test]
    fn a_feed_has_what_belongs_to_its_topics_once_and_in_order() {
        let bus = Bus::default();
        let mut feed = bus.subscribe(&[workspace(1), Topic::Email("a@example.org".into())]);
        bus.publish(event(1, 1, "a@example.org"));
        bus.publish(event(2, 2, "a@example.org"));
        bus.publish(event(3, 2, "b@example.org"));
        bus.publish(event(4, 1, "b@example.org"));
        assert_eq!(seqs(&mut feed), [Ok(1), Ok(2), Ok(4)]);
    }

    #[tokio::test]
    async fn a_slow_subscriber_is_told_and_then_goes_on() {
        let bus = Bus::default();
        let mut slow = bus.subscribe(&[workspace(1)]);
        let mut other = bus.subscribe(&[workspace(2)]);
        for seq in 0..=INBOX as i64 {
            bus.publish(event(seq, 1, "a@example.org"));
        }
        bus.publish(event(500, 2, "a@example.org"));
        assert_eq!(slow.next().await, Err(Lagged));
        bus.publish(event(501, 1, "a@example.org"));
        assert_eq!(seqs(&mut slow), [Ok(501)]);
        assert_eq!(seqs(&mut other), [Ok(500)]);
    }

    #[test]
    fn a_topic_that_nobody_watches_any_more_is_forgotten() {
        let bus = Bus::default();
        let first = bus.subscribe(&[workspace(1)]);
        let mut second = bus.subscribe(&[workspace(1), workspace(2)]);
        drop(first);
        bus.publish(event(1, 1, "a@example.org"));
        assert_eq!(seqs(&mut second), [Ok(1)]);
        drop(second);
        assert!(lock(&bus.topics.0).is_empty());
    }
}
