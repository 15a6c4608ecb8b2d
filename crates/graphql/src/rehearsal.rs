//! `dryRun`, an argument of every mutation. Knows how a field is run for a trial; refuses to know which field it is, so
//! that no mutation can be without it.

use std::borrow::Cow;

use async_graphql::{
    ContainerType, Context, ContextSelectionSet, Data, ObjectType, OutputType, Positioned, ServerResult,
    Value,
    parser::types::Field,
    registry::{MetaInputValue, MetaType, Registry},
    resolver_utils::resolve_container,
};

use crate::{authz::db, loaders::loaders};

const ARGUMENT: &str = "dryRun";
const DESCRIPTION: &str =
    "Whether it is only tried: checked and answered all the same, but nothing is changed or sent.";
const INPUT: &str = "What the mutation takes.";

/// The root of all mutations, each of which can be tried.
#[derive(Default)]
pub struct Rehearsable<M>(M);

impl<M: ObjectType> OutputType for Rehearsable<M> {
    fn type_name() -> Cow<'static, str> {
        M::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        let name = M::create_type_info(registry);
        if let Some(MetaType::Object { fields, .. }) = registry.types.get_mut(&*M::type_name()) {
            for field in fields.values_mut() {
                if let Some(input) = field.args.get_mut("input") {
                    input.description.get_or_insert_with(|| INPUT.to_owned());
                }
                let mut argument = MetaInputValue::new(ARGUMENT, "Boolean!");
                argument.description = Some(DESCRIPTION.to_owned());
                argument.default_value = Some("false".to_owned());
                field.args.insert(ARGUMENT.to_owned(), argument);
            }
        }
        name
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, _: &Positioned<Field>) -> ServerResult<Value> {
        resolve_container(ctx, self).await
    }
}

impl<M: ObjectType> ContainerType for Rehearsable<M> {
    async fn resolve_field(&self, ctx: &Context<'_>) -> ServerResult<Option<Value>> {
        let named = ctx.item.node.arguments.iter().any(|(name, _)| name.node == ARGUMENT);
        if !named || !ctx.param_value(ARGUMENT, Some(|| false))?.1 {
            return self.0.resolve_field(ctx).await;
        }
        let db = db(ctx).rehearsing();
        let mut trial = Data::default();
        trial.insert(loaders(db.clone()));
        trial.insert(db.clone());
        let mut ctx = ctx.clone();
        // What is found here is found before what the request and the schema hold.
        ctx.execute_data = Some(&trial);
        // Boxed: trials are rare, and every other mutation would keep room for one.
        let resolved = Box::pin(self.0.resolve_field(&ctx)).await;
        db.end_rehearsal().await;
        resolved
    }
}

impl<M: ObjectType> ObjectType for Rehearsable<M> {}

/// What is shown to nobody without being written down: `None` when the mutation is only tried.
pub(crate) fn unless_rehearsing<T>(ctx: &Context<'_>, secret: T) -> Option<T> {
    (!db(ctx).is_rehearsing()).then_some(secret)
}

/// The same of what opens something at once: the answer to an idempotency key holds it for a minute and not for a day.
pub(crate) fn only_now<T>(ctx: &Context<'_>, secret: T) -> Option<T> {
    if let Some(claim) = db(ctx).claim() {
        claim.fades();
    }
    unless_rehearsing(ctx, secret)
}
