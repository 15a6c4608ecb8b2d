//! Who changed something in a workspace, as far as the asker may know of them.

use std::{collections::HashMap, sync::Arc};

use async_graphql::{Context, Result, dataloader::Loader};
use guildhall_domain::{
    access::{Permission, WorkspaceAccess, perm},
    ids::UserId,
};
use guildhall_persistence::{
    ReadError,
    accounts::User as UserRow,
    authors::{self, Author},
};

use crate::{
    accounts::User,
    authz::grant,
    loaders::{self, Batches, Scoped},
};

/// An author, and whether they are told only while they are a member.
type AuthorKey = Scoped<perm::WorkspaceView, (UserId, bool)>;

/// The author of a change in a workspace. Those who manage its members are told whoever it was; those who see the members,
/// if it is one of them; everybody, if it was themselves. `None` to all others, and of whoever has left the organization.
pub(crate) async fn author(
    ctx: &Context<'_>,
    access: &Arc<WorkspaceAccess>,
    user: Option<UserId>,
) -> Option<Result<User>> {
    let user = user?;
    let held = access.permissions();
    let only_if_member = if Some(user) == access.actor().person() || held.holds(Permission::MembersManage) {
        false
    } else if held.holds(Permission::MembersView) {
        true
    } else {
        return None;
    };
    let load = async {
        let key: AuthorKey = Scoped { proof: grant(access)?, what: (user, only_if_member) };
        loaders::load(ctx, key).await
    };
    load.await.map(|found| found.map(User)).transpose()
}

impl Loader<AuthorKey> for Batches {
    type Value = UserRow;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[AuthorKey]) -> Result<HashMap<AuthorKey, UserRow>, Self::Error> {
        let wanted: Vec<_> = keys
            .iter()
            .map(|key| Author { proof: key.proof.clone(), user: key.what.0, only_if_member: key.what.1 })
            .collect();
        let found = authors::find(&self.0, &wanted).await?;
        Ok(keys.iter().zip(found).filter_map(|(key, user)| Some((key.clone(), user?))).collect())
    }
}
