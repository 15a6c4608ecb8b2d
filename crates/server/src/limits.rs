//! Every bound of the GraphQL transports, with its default and the reason for it. Knows numbers only; who
//! enforces them stands at each field.

use std::time::Duration;

/// Bounds of the HTTP handler and of execution.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest HTTP request body, in bytes. Counted while it streams in; beyond it the answer is 413.
    pub body_bytes: usize,
    /// Most errors in one answer; the rest are dropped. Keeps a bad document from being answered with megabytes.
    pub errors: usize,
    /// Deepest selection after expanding fragments. Standard introspection needs 15.
    pub depth: usize,
    /// Most complexity points of one operation. Standard introspection needs about 250.
    pub complexity: usize,
    /// Most aliases in one document. `__typename` costs no complexity, so aliases are bounded on their own.
    pub aliases: usize,
    /// Most directives on one field.
    pub directives: usize,
    /// Most fields of an operation's root, wherever they stand: each is a change of its own, or a search.
    pub root_fields: usize,
    /// Bounds of a document before it is parsed.
    pub document: DocumentLimits,
    /// Bounds of a WebSocket.
    pub socket: SocketLimits,
}

/// Bounds of a GraphQL document, enforced on its tokens before the recursive parser sees it.
#[derive(Debug, Clone)]
pub struct DocumentLimits {
    /// Longest document, in bytes.
    pub bytes: usize,
    /// Most lexical tokens.
    pub tokens: usize,
    /// Deepest nesting of `{}`, `[]` and `()` together.
    pub nesting: usize,
    /// Most fragment definitions.
    pub fragments: usize,
    /// Most fragment spreads after expanding each spread wherever it stands.
    pub spreads: usize,
    /// Most tokens after expanding the spreads: what validation walks.
    pub expanded_tokens: usize,
    /// Memory for parsed documents, in bytes (an estimate).
    pub cache_bytes: u64,
    /// Whether a document may ask for the schema. The executor alone would answer null in its place, without an error.
    pub introspection: bool,
}

/// Bounds of a graphql-transport-ws connection.
#[derive(Debug, Clone)]
pub struct SocketLimits {
    /// Largest message a client may send, in bytes; beyond it the socket closes with 1009.
    pub message_bytes: usize,
    /// Most operations running at once on one socket; a further one is refused with `RATE_LIMITED`.
    pub operations: usize,
    /// Most sockets of one actor; a further one closes with 1013.
    pub per_actor: usize,
    /// Most sockets in all; a further one closes with 1013.
    pub total: usize,
    /// Time a client has to send `connection_init`; then 4408.
    pub init_deadline: Duration,
    /// Pause between the server's pings. A peer silent for a whole pause after a ping counts as dead.
    pub ping_every: Duration,
    /// Longest wait for a client to take one message; then the socket closes with 1013.
    pub slow_reader: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 1024 * 1024,
            errors: 20,
            depth: 16,
            complexity: 2_000,
            aliases: 50,
            directives: 50,
            root_fields: 50,
            document: DocumentLimits::default(),
            socket: SocketLimits::default(),
        }
    }
}

impl Default for DocumentLimits {
    fn default() -> Self {
        Self {
            bytes: 64 * 1024,
            tokens: 4_000,
            nesting: 64,
            fragments: 50,
            spreads: 1_000,
            expanded_tokens: 20_000,
            cache_bytes: 16 * 1024 * 1024,
            introspection: true,
        }
    }
}

impl Default for SocketLimits {
    fn default() -> Self {
        Self {
            message_bytes: 64 * 1024,
            operations: 100,
            per_actor: 100,
            total: 10_000,
            init_deadline: Duration::from_secs(10),
            ping_every: Duration::from_secs(25),
            slow_reader: Duration::from_secs(5),
        }
    }
}
