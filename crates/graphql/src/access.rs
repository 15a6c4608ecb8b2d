//! Permissions and roles in the schema. The enum is made from the catalogue, so that a permission exists
//! once.

use std::{borrow::Cow, sync::LazyLock};

use async_graphql::{
    ContextSelectionSet, Description, Enum, ID, InputType, InputValueError, InputValueResult, Name, Object,
    OutputType, Positioned, ServerResult, SimpleObject, Value,
    indexmap::IndexMap,
    parser::types::Field,
    registry::{MetaEnumValue, MetaType, MetaTypeId, Registry},
};
use guildhall_domain::access::{self, PermissionSet, role};

use crate::{authz::anonymous, schema::mirror};

/// A permission in the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission(pub access::Permission);

/// The enum values of the permissions, in the order of the catalogue.
static WIRE_NAMES: LazyLock<Vec<Name>> = LazyLock::new(|| {
    let name =
        |permission: &access::Permission| Name::new(permission.name().replace('.', "_").to_uppercase());
    access::Permission::ALL.iter().map(name).collect()
});

/// The enum value of a permission: `MEMBERS_INVITE` for `members.invite`.
pub(crate) fn wire_name(permission: access::Permission) -> Name {
    WIRE_NAMES[permission as usize].clone()
}

fn register(_: &mut Registry) -> MetaType {
    let values: IndexMap<String, MetaEnumValue> = access::Permission::ALL
        .iter()
        .map(|permission| {
            let name = wire_name(*permission).to_string();
            let mut value = MetaEnumValue::new(&name);
            value.description = Some(permission.sentence().to_owned());
            (name, value)
        })
        .collect();
    MetaType::Enum {
        name: "Permission".to_owned(),
        description: Some("Something that a role can allow, in a workspace or an organization.".to_owned()),
        enum_values: values,
        visible: None,
        inaccessible: false,
        tags: Vec::new(),
        rust_typename: None,
        directive_invocations: Vec::new(),
        requires_scopes: Vec::new(),
    }
}

impl InputType for Permission {
    type RawValueType = Self;

    fn type_name() -> Cow<'static, str> {
        Cow::Borrowed("Permission")
    }

    fn create_type_info(registry: &mut Registry) -> String {
        registry.create_input_type::<Self, _>(MetaTypeId::Enum, register)
    }

    fn parse(value: Option<Value>) -> InputValueResult<Self> {
        let name = match &value {
            Some(Value::Enum(name)) => name.as_str(),
            Some(Value::String(name)) => name.as_str(),
            _ => return Err(InputValueError::expected_type(value.unwrap_or_default())),
        };
        (WIRE_NAMES.iter().zip(access::Permission::ALL))
            .find(|(wire, _)| *wire == name)
            .map(|(_, permission)| Self(*permission))
            .ok_or_else(|| InputValueError::custom("This is no permission of the catalogue."))
    }

    fn to_value(&self) -> Value {
        Value::Enum(wire_name(self.0))
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }
}

impl OutputType for Permission {
    fn type_name() -> Cow<'static, str> {
        Cow::Borrowed("Permission")
    }

    fn create_type_info(registry: &mut Registry) -> String {
        registry.create_output_type::<Self, _>(MetaTypeId::Enum, register)
    }

    async fn resolve(&self, _: &ContextSelectionSet<'_>, _: &Positioned<Field>) -> ServerResult<Value> {
        Ok(InputType::to_value(self))
    }
}

pub(crate) fn permissions(set: PermissionSet) -> Vec<Permission> {
    set.iter().map(Permission).collect()
}

/// A role: a named set of permissions that members, invitations and machines hold in a workspace.
#[derive(Description)]
pub struct Role(pub role::Role);

#[Object(use_type_description)]
impl Role {
    /// The role's global id.
    pub(crate) async fn id(&self) -> ID {
        self.0.id.into()
    }
    /// A short upper-case word, unique in the organization: `VIEWER`, `EDITOR` or `ADMIN` for a role of the system.
    async fn key(&self) -> &str {
        &self.0.key
    }
    /// The name people read.
    async fn name(&self) -> &str {
        &self.0.name
    }
    /// What the role is for; null where nobody said.
    async fn description(&self) -> Option<&str> {
        Some(self.0.description.as_str()).filter(|text| !text.is_empty())
    }
    /// Whether every organization has it, and nobody changes it.
    async fn is_system(&self) -> bool {
        role::SystemRole::from_id(self.0.id).is_some()
    }
    /// What the role allows, before the organization's policy has its say.
    async fn permissions(&self) -> Vec<Permission> {
        permissions(self.0.permissions)
    }
}

/// Where a right comes from.
#[derive(Enum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessSource {
    /// The membership of the workspace.
    Membership,
    /// The role in the organization: its admins and owners are Admins of every workspace in it.
    Organization,
}

/// The caller's rights in a workspace, and where they come from.
#[derive(SimpleObject)]
pub struct ViewerAccess {
    /// The role that decides.
    pub role: Role,
    /// Where it comes from.
    pub source: AccessSource,
}

mirror! {
    /// What a permission is held in.
    enum PermissionScope = access::catalog::Scope {
        /// The organization itself.
        Organization,
        /// A workspace.
        Workspace,
    }
}

/// A permission as people read it who put a role together.
#[derive(Description)]
pub struct PermissionDescription(access::Permission);

#[Object(use_type_description)]
impl PermissionDescription {
    /// The permission.
    async fn permission(&self) -> Permission {
        Permission(self.0)
    }
    /// Its name in access tokens, logs and documentation, such as `members.invite`.
    async fn name(&self) -> &str {
        self.0.name()
    }
    /// What it allows, as a sentence.
    async fn description(&self) -> &str {
        self.0.sentence()
    }
    /// What it is held in.
    async fn scope(&self) -> PermissionScope {
        self.0.scope().into()
    }
    /// The least of the system roles Viewer, Editor and Admin that holds it, as far as the organization's policy lets it;
    /// null where the policy or the role in the organization decides alone.
    async fn least_role(&self) -> Option<Role> {
        self.0.least_role().map(|role| Role(role.into()))
    }
}

/// The part of the query root about rights.
#[derive(Default)]
pub struct AccessQuery;

#[Object]
impl AccessQuery {
    /// Every permission there is, in the order in which a role editor shows them.
    #[graphql(directive = anonymous::apply("it is the same for everybody and says what the enum `Permission` says".to_owned()))]
    async fn permission_catalogue(&self) -> Vec<PermissionDescription> {
        access::Permission::ALL.iter().copied().map(PermissionDescription).collect()
    }
}
