//! Relay connections over keyset pages. What a client does not select is not queried: the page and the
//! total are fetched apart, each at most once.

use async_graphql::{Enum, InputObject, Result, SimpleObject};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use guildhall_domain::{
    page::{PageArgs, Position},
    text::ConfigKey,
};
use uuid::Uuid;

use crate::error;

/// Where a page stands in its list.
#[derive(SimpleObject, Clone, Debug)]
pub struct PageInfo {
    /// Whether there are items after this page.
    pub has_next_page: bool,
    /// Whether there are items before this page.
    pub has_previous_page: bool,
    /// The cursor of the first item; null on an empty page.
    pub start_cursor: Option<String>,
    /// The cursor of the last item; null on an empty page.
    pub end_cursor: Option<String>,
}

/// By what a list is sorted: unique in it.
pub(crate) trait SortKey: Sized {
    /// The key in a cursor.
    fn text(&self) -> String;
    /// The key of a cursor.
    fn read(text: &str) -> Option<Self>;
}

impl SortKey for Uuid {
    fn text(&self) -> String {
        self.as_simple().to_string()
    }

    fn read(text: &str) -> Option<Self> {
        Self::try_parse(text).ok()
    }
}

impl SortKey for ConfigKey {
    fn text(&self) -> String {
        self.as_str().to_owned()
    }

    fn read(text: &str) -> Option<Self> {
        Self::parse(text).ok()
    }
}

/// The cursor of a row in the list of that kind. It says which list it is of, so that one list's cursor is
/// refused by another.
pub(crate) fn cursor(list: &str, key: &impl SortKey) -> String {
    URL_SAFE_NO_PAD.encode(format!("{list}:{}", key.text()))
}

fn read_cursor<K: SortKey>(list: &str, argument: &str, text: &str) -> Result<K> {
    URL_SAFE_NO_PAD
        .decode(text)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| text.strip_prefix(list)?.strip_prefix(':').and_then(K::read))
        .ok_or_else(|| error::bad_input(format!("`{argument}` is not a cursor of this list.")))
}

impl SortKey for Position {
    fn text(&self) -> String {
        format!("{}{}", self.id.as_simple(), self.name)
    }

    fn read(text: &str) -> Option<Self> {
        let (id, name) = text.split_at_checked(32)?;
        // PostgreSQL takes no NUL, not even to compare.
        let name = (!name.contains('\0')).then(|| name.to_owned())?;
        Some(Self { name, id: Uuid::try_parse(id).ok()? })
    }
}

/// By what a list is sorted.
#[derive(Enum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderField {
    /// By age.
    CreatedAt,
    /// By display name; the case of ASCII letters does not count, and other letters come after them. Those of one name by
    /// age.
    Name,
}

/// Which way a list is sorted.
#[derive(Enum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderDirection {
    /// The oldest, or A, first.
    Asc,
    /// The newest, or Z, first.
    Desc,
}

/// How a list is sorted. A cursor is good in any order.
#[derive(InputObject, Clone, Copy)]
pub struct Order {
    /// By what.
    field: OrderField,
    /// Which way.
    #[graphql(default_with = "OrderDirection::Asc")]
    direction: OrderDirection,
}

impl Order {
    /// The order that is asked for.
    pub(crate) fn read(asked: Option<Self>) -> guildhall_domain::page::Order {
        asked.map_or_else(Default::default, |Self { field, direction }| guildhall_domain::page::Order {
            by_name: field == OrderField::Name,
            descending: direction == OrderDirection::Desc,
        })
    }
}

/// Relay's four arguments.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    pub(crate) first: Option<i32>,
    pub(crate) after: Option<String>,
    pub(crate) last: Option<i32>,
    pub(crate) before: Option<String>,
}

impl Window {
    /// The page of the list they ask for.
    pub(crate) fn read<K: SortKey>(&self, list: &str) -> Result<PageArgs<K>> {
        let after = self.after.as_deref().map(|text| read_cursor(list, "after", text)).transpose()?;
        let before = self.before.as_deref().map(|text| read_cursor(list, "before", text)).transpose()?;
        PageArgs::read(self.first, self.last, after, before).map_err(|fault| error::page(&fault))
    }
}

/// Declares the connection and edge of a list. `$source` has `page(ctx) -> Result<Page<$node>>` and
/// `total(ctx) -> Result<u64>`, and `$key` gives the sort key of a node.
macro_rules! connection {
    ($(#[$doc:meta])* $connection:ident, $edge:ident, $node:ty, $source:ty, $list:literal, $key:expr) => {
        $(#[$doc])*
        #[derive(async_graphql::Description)]
        pub struct $connection {
            source: $source,
            page: tokio::sync::OnceCell<guildhall_domain::page::Page<std::sync::Arc<$node>>>,
        }

        impl $connection {
            /// The name that the list's cursors carry.
            pub(crate) const LIST: &'static str = $list;

            pub(crate) fn new(source: $source) -> Self {
                Self { source, page: tokio::sync::OnceCell::new() }
            }

            async fn page(
                &self,
                ctx: &async_graphql::Context<'_>,
            ) -> async_graphql::Result<&guildhall_domain::page::Page<std::sync::Arc<$node>>> {
                self.page
                    .get_or_try_init(async || Ok(self.source.page(ctx).await?.map(std::sync::Arc::new)))
                    .await
            }
        }

        #[async_graphql::Object(use_type_description)]
        impl $connection {
            /// The items of this page with their cursors.
            async fn edges(&self, ctx: &async_graphql::Context<'_>) -> async_graphql::Result<Vec<$edge>> {
                Ok(self.page(ctx).await?.items.iter().map(|node| $edge(std::sync::Arc::clone(node))).collect())
            }

            /// The items of this page.
            async fn nodes(&self, ctx: &async_graphql::Context<'_>) -> async_graphql::Result<Vec<&$node>> {
                Ok(self.page(ctx).await?.items.iter().map(|node| &**node).collect())
            }

            /// Where this page stands in the list.
            async fn page_info(
                &self,
                ctx: &async_graphql::Context<'_>,
            ) -> async_graphql::Result<$crate::connection::PageInfo> {
                let page = self.page(ctx).await?;
                let key: fn(&$node) -> _ = $key;
                let at = |node: Option<&std::sync::Arc<$node>>| {
                    node.map(|node| $crate::connection::cursor($list, &key(node)))
                };
                Ok($crate::connection::PageInfo {
                    has_next_page: page.has_next,
                    has_previous_page: page.has_previous,
                    start_cursor: at(page.items.first()),
                    end_cursor: at(page.items.last()),
                })
            }

            /// How many items the whole list has. Counted only when selected.
            async fn total_count(&self, ctx: &async_graphql::Context<'_>) -> async_graphql::Result<i32> {
                Ok(i32::try_from(self.source.total(ctx).await?).unwrap_or(i32::MAX))
            }
        }

        #[doc = "An item of the list with its cursor."]
        #[derive(async_graphql::Description)]
        pub struct $edge(std::sync::Arc<$node>);

        #[async_graphql::Object(use_type_description)]
        impl $edge {
            /// Where the item stands in the list; for `after` and `before`.
            async fn cursor(&self) -> String {
                let key: fn(&$node) -> _ = $key;
                $crate::connection::cursor($list, &key(&self.0))
            }

            /// The item.
            async fn node(&self) -> &$node {
                &self.0
            }
        }
    };
}
pub(crate) use connection;

/// What a list costs: each item it can have costs its selection, beside the list itself.
pub(crate) fn cost(first: Option<i32>, last: Option<i32>, child: usize) -> usize {
    let size = first.or(last).and_then(|size| usize::try_from(size).ok());
    let size = size.unwrap_or(guildhall_domain::page::DEFAULT_PAGE as usize);
    // A page costs little more than its rows' selections; 1 for each ten keeps a screenful affordable.
    1 + child + child * size.min(100) / 10
}
