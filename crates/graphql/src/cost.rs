//! What an operation costs, for those who ask. Knows the points and levels that the executor counts, and its limits;
//! refuses to count anything itself.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use async_graphql::{
    Name, Response, ServerError, ValidationResult, Value,
    extensions::{Extension, ExtensionContext, ExtensionFactory, NextRequest, NextValidation},
    indexmap::IndexMap,
};

use crate::schema::Limits;

/// Adds `queryCost` to the extensions of each answer, and enforces the limits that the executor would have enforced before
/// anybody could know by how much they were passed.
pub(crate) struct QueryCost(pub(crate) Limits);

impl ExtensionFactory for QueryCost {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Measured {
            limits: self.0,
            known: AtomicBool::default(),
            complexity: AtomicUsize::default(),
            depth: AtomicUsize::default(),
        })
    }
}

struct Measured {
    limits: Limits,
    known: AtomicBool,
    complexity: AtomicUsize,
    depth: AtomicUsize,
}

impl Measured {
    fn told(&self) -> Value {
        let figures = [
            ("complexity", self.complexity.load(Ordering::Relaxed)),
            ("complexityLimit", self.limits.complexity),
            ("depth", self.depth.load(Ordering::Relaxed)),
            ("depthLimit", self.limits.depth),
        ];
        let told = figures.into_iter().map(|(name, figure)| (Name::new(name), Value::from(figure)));
        Value::Object(told.collect::<IndexMap<_, _>>())
    }
}

#[async_trait::async_trait]
impl Extension for Measured {
    async fn request(&self, ctx: &ExtensionContext<'_>, next: NextRequest<'_>) -> Response {
        let answer = next.run(ctx).await;
        if self.known.load(Ordering::Relaxed) { answer.extension("queryCost", self.told()) } else { answer }
    }

    async fn validation(
        &self,
        ctx: &ExtensionContext<'_>,
        next: NextValidation<'_>,
    ) -> Result<ValidationResult, Vec<ServerError>> {
        let counted = next.run(ctx).await?;
        self.complexity.store(counted.complexity, Ordering::Relaxed);
        self.depth.store(counted.depth, Ordering::Relaxed);
        self.known.store(true, Ordering::Relaxed);
        // In the executor's words, by which its own are known.
        if counted.complexity > self.limits.complexity {
            return Err(vec![ServerError::new(TOO_COMPLEX, None)]);
        }
        if counted.depth > self.limits.depth {
            return Err(vec![ServerError::new(TOO_DEEP, None)]);
        }
        Ok(counted)
    }
}

/// What the executor says of an operation beyond its limit of points.
pub const TOO_COMPLEX: &str = "Query is too complex.";
/// What the executor says of an operation beyond its limit of levels.
pub const TOO_DEEP: &str = "Query is nested too deep.";
