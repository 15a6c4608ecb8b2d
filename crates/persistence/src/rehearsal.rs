//! A change that is tried and taken back. Knows the transaction it was made in, which stays open while the answer is put
//! together, so that the answer reads what a real change would have left; refuses to know what changed.

use sea_orm::{DbErr, QueryResult};
use tokio::sync::Mutex;

use crate::{
    connection::Transaction,
    sql::{self, Sql},
};

/// What one mutation has changed so far, for itself alone.
#[derive(Default)]
pub(crate) struct Rehearsal(Mutex<Option<Transaction>>);

impl Rehearsal {
    /// Goes on with what was changed before, if anything was.
    pub(crate) async fn take(&self) -> Option<Transaction> {
        let transaction = self.0.lock().await.take();
        transaction.inspect(Transaction::count_anew)
    }

    /// Keeps a change open.
    pub(crate) async fn keep(&self, transaction: Transaction) {
        *self.0.lock().await = Some(transaction);
    }

    /// Reads what the change has left; `None` when nothing was changed.
    pub(crate) async fn rows(&self, sql: &Sql) -> Option<Result<Vec<QueryResult>, DbErr>> {
        match &*self.0.lock().await {
            Some(transaction) => Some(sql::rows(transaction, sql.clone()).await),
            None => None,
        }
    }
}
