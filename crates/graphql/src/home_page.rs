//! Home pages in the schema.

use std::sync::Arc;

use async_graphql::{Context, Description, ID, InputObject, Object, Result};
use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{WorkspaceAccess, perm},
    home_page::DescribeWorkspaceCode,
    refusal::{InputReader, Refusals},
    text::Markdown,
};
use guildhall_persistence::home_page::{self, Edit};

use crate::{
    accounts::User,
    authors::author,
    authz::{authorize, authorize_in, db},
    payload::{Refusable as _, answer, payload},
    workspaces::{Workspace, changed},
};

/// The home page of a workspace, with what an editor needs to know of it.
#[derive(Description)]
pub struct HomePage {
    pub(crate) access: Arc<WorkspaceAccess>,
    pub(crate) row: home_page::HomePage,
}

#[Object(use_type_description)]
impl HomePage {
    /// The text in Markdown; null when there is none.
    async fn text(&self) -> Option<&str> {
        self.row.text.as_deref()
    }
    /// How often it was changed, clearing included; 0 where nobody wrote one yet. Give it as `version` with the edit that
    /// starts from this text.
    async fn version(&self) -> i32 {
        self.row.version
    }
    /// When it was changed last; null where nobody wrote one yet.
    async fn updated_at(&self) -> Option<DateTime<Utc>> {
        self.row.updated_at
    }
    /// Who changed it last. Null where nobody did, where they have left the organization, and where you may not know of the
    /// person: whoever manages the members sees everybody here, and who sees the members sees those who are still one.
    async fn updated_by(&self, ctx: &Context<'_>) -> Option<Result<User>> {
        author(ctx, &self.access, self.row.updated_by).await
    }
}

/// The new home page of a workspace.
#[derive(InputObject)]
pub struct DescribeWorkspaceInput {
    /// The workspace.
    workspace_id: ID,
    /// The home page in Markdown, at most 64 KiB; null or blank clears it.
    description: Option<String>,
    /// The version that the edit started from, as `homePage.version` gives it: refused with `STALE` where somebody changed
    /// the page since. When absent, the text replaces whatever is there.
    version: Option<i32>,
}

payload! {
    /// What was changed.
    DescribeWorkspacePayload, DescribeWorkspaceError = DescribeWorkspaceCode {
        /// The workspace.
        workspace: Workspace,
        /// The home page as it is now, also where the edit was refused as `STALE`.
        current: HomePage,
    }
}

/// The home page part of the mutation root.
#[derive(Default)]
pub struct HomePageMutation;

#[Object]
impl HomePageMutation {
    /// Replaces a workspace's home page, or clears it. Of two edits that started from the same version one is written, and
    /// the other is refused as `STALE` with what is there now.
    #[graphql(directive = authorize::apply("WORKSPACE_DESCRIBE".to_owned()))]
    async fn describe_workspace(
        &self,
        ctx: &Context<'_>,
        input: DescribeWorkspaceInput,
    ) -> Result<DescribeWorkspacePayload> {
        let proof = authorize_in::<perm::WorkspaceDescribe>(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let text = input.description.as_deref().map(Markdown::parse_or_clear);
            let text = reader.optional("description", text);
            home_page::edit(db(ctx), &proof, reader.all(text)?.flatten(), input.version).await
        }
        .await;
        let current = |row| Some(HomePage { access: Arc::clone(proof.access()), row });
        answer(ctx, outcome, |edit| match edit {
            Edit::Written(workspace, page) => DescribeWorkspacePayload {
                workspace: changed(&proof, *workspace),
                current: current(page),
                user_errors: Vec::new(),
            },
            Edit::Stale(refusal, page) => DescribeWorkspacePayload {
                current: current(page),
                ..DescribeWorkspacePayload::refused(Refusals::from(refusal))
            },
        })
    }
}
