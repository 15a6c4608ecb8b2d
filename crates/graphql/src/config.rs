//! Configuration properties in the schema.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use async_graphql::{
    Context, Description, ID, InputObject, InputValueError, InputValueResult, Object, OneofObject, Result,
    Scalar, ScalarType, SimpleObject, Value, dataloader::Loader,
};
use chrono::{DateTime, Utc};
use guildhall_domain::{
    access::{Granted, perm},
    audit::Action,
    config::{
        ConfigKind as DomainKind, ConfigValue, DeleteConfigPropertyCode, MAX_BATCH, SetConfigPropertiesCode,
        SetConfigPropertyCode, suspicions,
    },
    page::{Page, PageArgs},
    refusal::{FieldFault, InputReader, Refusal},
    text::{ConfigKey, ConfigPrefix},
};
use guildhall_persistence::{ReadError, config, counts::Count};

use crate::{
    accounts::User,
    authors::author,
    authz::{authorize, authorize_in, db},
    connection::connection,
    loaders::{self, Batches, Scoped, grouped},
    payload::{answer, payload},
    schema::mirror,
};

mirror! {
    /// What kind of value a configuration property has.
    enum ConfigKind = DomainKind {
        /// A text.
        String,
        /// A number of any size.
        Number,
        /// True or false.
        Boolean,
        /// Any other JSON: an object or a list, mostly.
        Json,
    }
}

/// Any JSON value.
pub struct Json(Value);

impl Json {
    /// That value.
    pub(crate) fn of(value: Value) -> Self {
        Self(value)
    }
}

/// Any value of JSON: a text, a number, true or false, a list, or an object. Numbers in it are integers of 64 bits or doubles.
#[Scalar(name = "JSON", specified_by_url = "https://www.rfc-editor.org/rfc/rfc8259")]
impl ScalarType for Json {
    fn parse(value: Value) -> InputValueResult<Self> {
        Ok(Self(value))
    }

    fn to_value(&self) -> Value {
        self.0.clone()
    }
}

/// A number, or the text of one.
pub struct Decimal(Value);

/// A number of any size. As a JSON number it may have as many digits as a double keeps, or be an integer of 64 bits; as a text, such
/// as `"12345678901234567890.5"`, up to 1000 digits, of which each is kept.
#[Scalar(specified_by_url = "https://www.rfc-editor.org/rfc/rfc8259#section-6")]
impl ScalarType for Decimal {
    fn parse(value: Value) -> InputValueResult<Self> {
        match value {
            Value::Number(_) | Value::String(_) => Ok(Self(value)),
            value => Err(InputValueError::expected_type(value)),
        }
    }

    fn to_value(&self) -> Value {
        self.0.clone()
    }
}

/// A configuration property of a workspace. Seen with `CONFIG_VIEW`.
#[derive(Description)]
pub struct ConfigProperty {
    view: Granted<perm::ConfigView>,
    row: config::ConfigProperty,
}

#[Object(use_type_description)]
impl ConfigProperty {
    /// The key, unique in the workspace.
    async fn key(&self) -> &str {
        self.row.key.as_str()
    }
    /// What kind of value it has.
    async fn kind(&self) -> ConfigKind {
        self.row.value.kind().into()
    }
    /// The value. A number of more digits than a double keeps is rounded here, and null where it is beyond the range of
    /// doubles; `text` has it as it was given.
    async fn value(&self) -> Option<Json> {
        serde_json::from_str(self.row.value.as_json()).ok().map(Json)
    }
    /// The value as JSON text, with every digit of a number.
    async fn text(&self) -> &str {
        self.row.value.as_json()
    }
    /// When it was set last.
    async fn updated_at(&self) -> DateTime<Utc> {
        self.row.updated_at
    }
    /// Who set it last. Null where they have left the organization, and where you may not know of the person: whoever manages
    /// the members sees everybody here, and who sees the members sees those who are still one.
    async fn updated_by(&self, ctx: &Context<'_>) -> Option<Result<User>> {
        author(ctx, self.view.access(), self.row.updated_by).await
    }
}

type PageKey = Scoped<perm::ConfigView, (Option<ConfigPrefix>, PageArgs<ConfigKey>)>;
type PropertyKey = Scoped<perm::ConfigView, ConfigKey>;

impl Loader<PageKey> for Batches {
    type Value = Page<config::ConfigProperty>;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[PageKey]) -> Result<HashMap<PageKey, Self::Value>, Self::Error> {
        let mut pages = HashMap::with_capacity(keys.len());
        for ((prefix, args), group) in grouped(keys, |key| key.what.clone()) {
            // A cursor is of one workspace, so only first pages come in numbers.
            if group.len() == 1 || args.after.is_some() || args.before.is_some() {
                for key in group {
                    pages.insert(
                        key.clone(),
                        config::page(&self.0, &key.proof, prefix.as_ref(), &args).await?,
                    );
                }
                continue;
            }
            let proofs: Vec<_> = group.iter().map(|key| key.proof.clone()).collect();
            let mut rows: HashMap<_, Vec<_>> = HashMap::new();
            for row in config::first_of_each(&self.0, &proofs, prefix.as_ref(), &args).await? {
                rows.entry(row.workspace).or_default().push(row);
            }
            for key in group {
                let rows = rows.remove(&key.place()).unwrap_or_default();
                pages.insert(key.clone(), Page::cut(&args, rows));
            }
        }
        Ok(pages)
    }
}

impl Loader<PropertyKey> for Batches {
    type Value = config::ConfigProperty;
    type Error = Arc<ReadError>;

    async fn load(&self, keys: &[PropertyKey]) -> Result<HashMap<PropertyKey, Self::Value>, Self::Error> {
        let wanted: Vec<_> = keys.iter().map(|key| (key.proof.clone(), key.what.clone())).collect();
        let rows = config::by_keys(&self.0, &wanted).await?;
        let rows: HashMap<_, _> =
            rows.into_iter().map(|row| ((row.workspace, row.key.clone()), row)).collect();
        let found = |key: &PropertyKey| rows.get(&(key.place(), key.what.clone())).cloned();
        Ok(keys.iter().filter_map(|key| Some((key.clone(), found(key)?))).collect())
    }
}

pub(crate) struct ConfigProperties {
    pub(crate) proof: Granted<perm::ConfigView>,
    pub(crate) prefix: Option<ConfigPrefix>,
    pub(crate) args: PageArgs<ConfigKey>,
}

impl ConfigProperties {
    async fn page(&self, ctx: &Context<'_>) -> Result<Page<ConfigProperty>> {
        let key = Scoped { proof: self.proof.clone(), what: (self.prefix.clone(), self.args.clone()) };
        let page = loaders::load(ctx, key).await?;
        let page = page.unwrap_or_else(|| Page::cut(&self.args, Vec::new()));
        Ok(page.map(|row| ConfigProperty { view: self.proof.clone(), row }))
    }

    async fn total(&self, ctx: &Context<'_>) -> Result<u64> {
        let count = Count::ConfigProperties(self.proof.clone(), self.prefix.clone());
        loaders::number(ctx, count).await
    }
}

connection! {
    /// A list of a workspace's configuration properties.
    ConfigPropertyConnection, ConfigPropertyEdge, ConfigProperty, ConfigProperties, "config", |property| property.row.key.clone()
}

/// The property of that key, if there is one.
pub(crate) async fn property(
    ctx: &Context<'_>,
    proof: Granted<perm::ConfigView>,
    key: &str,
) -> Result<Option<ConfigProperty>> {
    let Ok(key) = ConfigKey::parse(key) else { return Ok(None) };
    let row = loaders::load(ctx, Scoped { proof: proof.clone(), what: key }).await?;
    Ok(row.map(|row| ConfigProperty { view: proof, row }))
}

/// A value for a configuration property: exactly one of these.
#[derive(OneofObject)]
pub enum ConfigValueInput {
    /// A text.
    String(String),
    /// A number; as a text it may have any number of digits.
    Number(Decimal),
    /// True or false.
    Boolean(bool),
    /// Any other JSON, such as an object or a list.
    Json(Json),
}

impl ConfigValueInput {
    fn read(&self) -> std::result::Result<ConfigValue, FieldFault> {
        match self {
            Self::String(text) => ConfigValue::string(text),
            Self::Number(Decimal(Value::Number(number))) => ConfigValue::carried_number(number),
            Self::Number(Decimal(Value::String(text))) => ConfigValue::number(text),
            Self::Number(_) => Err(FieldFault("is no number".to_owned())),
            Self::Boolean(value) => Ok(ConfigValue::boolean(*value)),
            Self::Json(Json(value)) => {
                let text = serde_json::to_string(value).map_err(|_| FieldFault("is no JSON".to_owned()))?;
                ConfigValue::json(&text)
            }
        }
    }
}

/// Something in what was set that you may want to do otherwise. It was done all the same.
#[derive(SimpleObject)]
pub struct ConfigWarning {
    /// The path in `input` to the field it is about.
    field: Vec<Cow<'static, str>>,
    /// What it is about and what to do, in English.
    message: String,
}

fn warnings(at: &[Cow<'static, str>], key: &ConfigKey, value: &ConfigValue) -> Vec<ConfigWarning> {
    let warning = |suspicion: guildhall_domain::config::Suspicion| {
        let mut field = at.to_vec();
        field.push(suspicion.part.field().into());
        ConfigWarning { message: format!("`{}` {}", field.join("."), suspicion.message()), field }
    };
    suspicions(key, value).into_iter().map(warning).collect()
}

/// A property and its value.
#[derive(InputObject)]
pub struct SetConfigPropertyInput {
    /// The workspace.
    workspace_id: ID,
    /// The key: letters, digits and `_`, with single `.` or `-` between them and no digit first; at most 128 characters. Capitals
    /// count: `year` and `YEAR` are two.
    key: String,
    /// The value, at most 64 KiB.
    value: ConfigValueInput,
}

payload! {
    /// What was set.
    SetConfigPropertyPayload, SetConfigPropertyError = SetConfigPropertyCode {
        /// The property.
        property: ConfigProperty,
        /// What looks like a secret, which every member could read; empty if nothing does. It was set all the same.
        warnings: Vec<ConfigWarning>,
    }
}

/// One of several properties.
#[derive(InputObject)]
pub struct ConfigPropertyInput {
    /// The key, as in `SetConfigPropertyInput`; each once.
    key: String,
    /// The value, at most 64 KiB.
    value: ConfigValueInput,
}

/// Properties and their values.
#[derive(InputObject)]
pub struct SetConfigPropertiesInput {
    /// The workspace.
    workspace_id: ID,
    /// 1 to 100 properties. All of them are set, or none.
    properties: Vec<ConfigPropertyInput>,
}

payload! {
    /// What was set.
    SetConfigPropertiesPayload, SetConfigPropertiesError = SetConfigPropertiesCode {
        /// The properties, in the order of the input.
        properties: Vec<ConfigProperty>,
        /// What looks like a secret, which every member could read; empty if nothing does. It was set all the same.
        warnings: Vec<ConfigWarning>,
    }
}

/// Which property to delete.
#[derive(InputObject)]
pub struct DeleteConfigPropertyInput {
    /// The workspace.
    workspace_id: ID,
    /// The key.
    key: String,
}

payload! {
    /// What was deleted.
    DeleteConfigPropertyPayload, DeleteConfigPropertyError = DeleteConfigPropertyCode {
        /// The property as it was.
        property: ConfigProperty,
    }
}

/// The configuration part of the mutation root.
#[derive(Default)]
pub struct ConfigMutation;

/// A property as it is after a change, seen with the rights that the change was made with: whoever changes configuration
/// without seeing it is told nothing.
fn seen(proof: &Granted<perm::ConfigManage>, row: config::ConfigProperty) -> Option<ConfigProperty> {
    Some(ConfigProperty { view: proof.access().grant().ok()?, row })
}

#[Object]
impl ConfigMutation {
    /// Sets a configuration property, new or not. Every member of the workspace can read it: what looks like a secret is set
    /// with a warning. A workspace has at most 1000.
    #[graphql(directive = authorize::apply("CONFIG_MANAGE".to_owned()))]
    async fn set_config_property(
        &self,
        ctx: &Context<'_>,
        input: SetConfigPropertyInput,
    ) -> Result<SetConfigPropertyPayload> {
        let proof = authorize_in::<perm::ConfigManage>(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let key = reader.field("key", ConfigKey::parse(&input.key));
            let value = reader.field("value", input.value.read());
            let (key, value) = reader.all(key.zip(value))?;
            let warnings = warnings(&[], &key, &value);
            let code = SetConfigPropertyCode::LimitReached;
            let set =
                config::set(db(ctx), &proof, vec![(key, value)], Action::SetConfigProperty, code).await?;
            Ok((set, warnings))
        }
        .await;
        answer(ctx, outcome, |(set, warnings)| SetConfigPropertyPayload {
            property: set.into_iter().next().and_then(|row| seen(&proof, row)),
            warnings: Some(warnings),
            user_errors: Vec::new(),
        })
    }

    /// Sets up to 100 configuration properties, all or none. Each that is refused is named by its place.
    #[graphql(directive = authorize::apply("CONFIG_MANAGE".to_owned()))]
    async fn set_config_properties(
        &self,
        ctx: &Context<'_>,
        input: SetConfigPropertiesInput,
    ) -> Result<SetConfigPropertiesPayload> {
        let proof = authorize_in::<perm::ConfigManage>(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let count = input.properties.len();
            if !(1..=MAX_BATCH).contains(&count) {
                let message = format!("`properties` has {count} entries: give 1 to {MAX_BATCH}.");
                let code = SetConfigPropertiesCode::InvalidInput;
                return Err(Refusal::new(code, message).at("properties").into());
            }
            let mut wanted = Vec::with_capacity(count);
            let mut known = HashSet::with_capacity(count);
            for (index, property) in input.properties.iter().enumerate() {
                let key = match known.insert(property.key.as_str()) {
                    true => ConfigKey::parse(&property.key).map_err(FieldFault::from),
                    false => Err(FieldFault("stands in the list twice: give each key once".to_owned())),
                };
                let key = reader.item("properties", index, "key", key);
                let value = reader.item("properties", index, "value", property.value.read());
                wanted.extend(key.zip(value));
            }
            reader.finish()?;
            let warned = wanted.iter().enumerate().flat_map(|(index, (key, value))| {
                warnings(&["properties".into(), index.to_string().into()], key, value)
            });
            let warnings: Vec<_> = warned.collect();
            let code = SetConfigPropertiesCode::LimitReached;
            let set = config::set(db(ctx), &proof, wanted, Action::SetConfigProperties, code).await?;
            Ok((set, warnings))
        }
        .await;
        answer(ctx, outcome, |(set, warnings)| SetConfigPropertiesPayload {
            properties: set.into_iter().map(|row| seen(&proof, row)).collect(),
            warnings: Some(warnings),
            user_errors: Vec::new(),
        })
    }

    /// Deletes a configuration property.
    #[graphql(directive = authorize::apply("CONFIG_MANAGE".to_owned()))]
    async fn delete_config_property(
        &self,
        ctx: &Context<'_>,
        input: DeleteConfigPropertyInput,
    ) -> Result<DeleteConfigPropertyPayload> {
        let proof = authorize_in::<perm::ConfigManage>(ctx, &input.workspace_id).await?;
        let outcome = async {
            let mut reader = InputReader::default();
            let key = reader.field("key", ConfigKey::parse(&input.key));
            config::delete(db(ctx), &proof, &reader.all(key)?).await
        }
        .await;
        answer(ctx, outcome, |row| DeleteConfigPropertyPayload {
            property: seen(&proof, row),
            user_errors: Vec::new(),
        })
    }
}
