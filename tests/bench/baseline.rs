//! What the least that can answer would cost here: an axum handler with one SQL statement on the driver's own pool, no
//! GraphQL, no session, no rights, no events, no mail. Milliseconds differ from machine to machine and from hour to hour;
//! how many times the least a request costs does not.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use serde_json::{Value, json};
use sqlx::{PgPool, Row as _, postgres::PgPoolOptions};
use uuid::Uuid;

use crate::Result;

const OVERVIEW: &str = "SELECT w.name, w.display_name, w.countries, \
    (SELECT m.role_id FROM memberships m WHERE m.workspace_id = w.id AND m.user_id = $2) AS role, \
    (SELECT count(*) FROM memberships m WHERE m.workspace_id = w.id) AS members, \
    (SELECT count(*) FROM invitation_grants g JOIN invitations i ON i.id = g.invitation_id \
        WHERE g.workspace_id = w.id AND g.pending AND i.expires_at > now()) AS pending, \
    (SELECT json_agg(page)::text FROM (SELECT u.display_name, u.email FROM memberships m \
        JOIN users u ON u.id = m.user_id WHERE m.workspace_id = w.id ORDER BY m.id LIMIT 10) page) AS page \
    FROM workspaces w WHERE w.name = $1";
const CHECK: &str = "SELECT m.role_id FROM memberships m JOIN workspaces w ON w.id = m.workspace_id \
    WHERE w.name = $1 AND m.user_id = $2";
const INVITE: &str = "WITH invitation AS (INSERT INTO invitations \
        (id, organization_id, email, inviter_id, status, token_hash, expires_at, delivery, created_at, updated_at) \
        SELECT $3, w.organization_id, $4, $2, 'PENDING', $5, now() + interval '7 days', 'QUEUED', now(), now() \
        FROM workspaces w WHERE w.name = $1 RETURNING id) \
    INSERT INTO invitation_grants (invitation_id, workspace_id, role_id, email, pending) \
    SELECT i.id, w.id, m.role_id, $4, true FROM invitation i, workspaces w \
        JOIN memberships m ON m.workspace_id = w.id AND m.user_id = $2 WHERE w.name = $1";

/// Serves until it is stopped.
pub fn serve(address: SocketAddr, url: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let pool = PgPoolOptions::new().max_connections(16).test_before_acquire(false).connect(url).await?;
        let app = Router::new()
            .route("/readyz", get(async || "ready"))
            .route("/graphql", post(answer))
            .with_state(Arc::new(pool));
        axum::serve(tokio::net::TcpListener::bind(address).await?, app).await?;
        Ok(())
    })
}

async fn answer(State(pool): State<Arc<PgPool>>, Json(request): Json<Value>) -> (StatusCode, Json<Value>) {
    match run(&pool, &request).await {
        Ok(answer) => (StatusCode::OK, Json(answer)),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({ "error": error.to_string() }))),
    }
}

async fn run(pool: &PgPool, request: &Value) -> Result<Value> {
    let text = |name: &str| request["variables"][name].as_str().unwrap_or_default();
    let (name, user) = (text("name"), Uuid::parse_str(text("user"))?);
    Ok(match request["query"].as_str() {
        Some("query") => {
            let row = sqlx::query(OVERVIEW).bind(name).bind(user).fetch_one(pool).await?;
            json!({
                "name": row.try_get::<&str, _>("name")?,
                "displayName": row.try_get::<&str, _>("display_name")?,
                "countries": row.try_get::<&str, _>("countries")?,
                "role": row.try_get::<Uuid, _>("role")?,
                "totalCount": row.try_get::<i64, _>("members")?,
                "pending": row.try_get::<i64, _>("pending")?,
                "nodes": serde_json::from_str::<Value>(row.try_get("page")?)?,
            })
        }
        Some("check") => {
            let row = sqlx::query(CHECK).bind(name).bind(user).fetch_one(pool).await?;
            json!({ "role": row.try_get::<Uuid, _>("role_id")? })
        }
        _ => {
            #[expect(clippy::disallowed_methods, reason = "nothing here is injected")]
            let id = Uuid::now_v7();
            let invited = sqlx::query(INVITE).bind(name).bind(user).bind(id).bind(text("email"));
            let written = invited.bind(id.as_bytes().repeat(2)).execute(pool).await?.rows_affected();
            json!({ "id": id, "written": written })
        }
    })
}
