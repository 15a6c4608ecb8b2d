//! What the tests stand on: fresh databases, a mail server, a running Guildhall, and people who use it.
//!
//! Everything goes over real loopback sockets. Knows how to ask; refuses to know which answer is right.

pub mod actor;
pub mod answer;
pub mod app;
pub mod databases;
pub mod environment;
pub mod mailbox;
pub mod process;
pub mod subscription;

pub use actor::{Actor, Workspace};
pub use answer::Answer;
pub use app::App;
pub use environment::Environment;
pub use process::Process;
pub use subscription::Subscription;
