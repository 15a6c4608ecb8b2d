//! Organizations: changing their name and their policy.

use guildhall_domain::{
    access::{Granted, OrganizationPolicy, perm},
    organizations::{UpdateOrganizationCode, UpdateOrganizationPolicyCode},
    text::DisplayName,
};

use crate::{db::Db, error::OpError, sql::Sql};

/// Gives an organization another name. Its slug stays.
pub async fn update(
    db: &Db,
    proof: &Granted<perm::OrganizationManage>,
    name: Option<DisplayName>,
) -> Result<(), OpError<UpdateOrganizationCode>> {
    db.write(proof, async |tx| {
        if let Some(name) = name {
            let sql = Sql::new("UPDATE organizations SET name = ")
                .bind(name.as_str())
                .push(", updated_at = ")
                .bind(tx.now())
                .push(" WHERE id = ")
                .bind(proof.access().organization().uuid());
            tx.run(sql).await?;
        }
        Ok(())
    })
    .await
}

/// Changes an organization's policy, for the next request of everybody in it. `change` gets the policy as it is.
pub async fn update_policy(
    db: &Db,
    proof: &Granted<perm::OrganizationGovern>,
    change: impl FnOnce(&mut OrganizationPolicy) + Send,
) -> Result<(), OpError<UpdateOrganizationPolicyCode>> {
    db.write(proof, async |tx| {
        let mut policy = *tx.organization()?.policy();
        change(&mut policy);
        let sql = Sql::new("UPDATE organizations SET workspace_creation = ")
            .bind(policy.workspace_creation.word())
            .push(", workspace_deletion = ")
            .bind(policy.workspace_deletion.word())
            .push(", member_list_visibility = ")
            .bind(policy.member_list_visibility.word())
            .push(", share_acceptance = ")
            .bind(policy.share_acceptance.word())
            .push(", allow_reveal = ")
            .bind(policy.allow_reveal)
            .push(", invitation_lifetime_hours = ")
            .bind(policy.invitation_lifetime_hours.map(i32::from))
            .push(", api_key_max_lifetime_days = ")
            .bind(policy.api_key_max_lifetime_days.map(i32::from))
            .push(", updated_at = ")
            .bind(tx.now())
            .push(" WHERE id = ")
            .bind(proof.access().organization().uuid());
        tx.run(sql).await?;
        Ok(())
    })
    .await
}
