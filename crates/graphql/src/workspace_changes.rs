//! Changes of a workspace as they are watched.

use async_graphql::{Context, ID, Result, SimpleObject, Subscription};
use futures_util::Stream;
use guildhall_domain::{
    access::perm,
    events::{EventKind, WorkspaceChange as DomainChange},
};

use crate::{
    authz::authorize,
    live::{self, Told, Turn, Watching},
    loaders,
    schema::mirror,
    workspaces::Workspace,
};

mirror! {
    /// What changed of a workspace.
    enum WorkspaceChangeKind = DomainChange {
        /// Its display name, countries, image, region or labels.
        Settings,
        /// Its home page.
        HomePage,
        /// Its configuration properties.
        Config,
        /// It was archived.
        Archived,
        /// It was restored.
        Restored,
        /// It was deleted. Whoever watches is told by the error that ends the subscription.
        Deleted,
    }
}

/// A change of a workspace.
#[derive(SimpleObject)]
pub struct WorkspaceChange {
    /// Where this change stands; give it as `after` to go on from here after a break.
    cursor: String,
    /// What changed; null when `resyncRequired`.
    change: Option<WorkspaceChangeKind>,
    /// The workspace as it is now; null when `resyncRequired`.
    workspace: Option<Workspace>,
    /// Changes are missing that cannot be sent again: read the workspace anew, then go on.
    resync_required: bool,
}

/// The answer to one event.
async fn change(ctx: &Context<'_>, turn: Turn) -> Result<WorkspaceChange> {
    let (event, access) = match turn.0 {
        Told::Event { event, access, .. } => (event, access),
        Told::Resync(seq) => {
            let cursor = live::cursor(seq);
            return Ok(WorkspaceChange { cursor, change: None, workspace: None, resync_required: true });
        }
    };
    let standing = loaders::load(ctx, (access.actor(), access.workspace())).await?;
    Ok(WorkspaceChange {
        cursor: live::cursor(event.seq),
        change: event.state.as_deref().and_then(DomainChange::from_word).map(Into::into),
        workspace: standing.map(Workspace::new).transpose()?,
        resync_required: false,
    })
}

/// The workspace part of the subscription root.
#[derive(Default)]
pub struct WorkspaceSubscription;

#[Subscription]
impl WorkspaceSubscription {
    /// Every change of the workspace itself, within a second: its settings, home page and configuration, and that it was
    /// archived or restored. It ends with an error once you may not see the workspace any more, or there is none.
    #[graphql(directive = authorize::apply("WORKSPACE_VIEW".to_owned()))]
    async fn workspace_changed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The workspace.")] workspace_id: ID,
        #[graphql(
            desc = "The cursor of the last change you know: those you missed since come first. With `now` the first change says \
                    `resyncRequired` and where you begin: what you read after it is complete with what comes. Absent: what \
                    happens once it runs, with no word of when that is."
        )]
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<WorkspaceChange>>> {
        let watching =
            Watching::of::<perm::WorkspaceView>(ctx, &workspace_id, EventKind::Workspace, after.as_deref())
                .await?;
        Ok(watching.answers(move |turn| change(ctx, turn)))
    }
}
