//! Pages of a list: how many, from where, which way. Knows no table; a cursor is the sort key of a row.

use uuid::Uuid;

/// The size of a page that names none.
pub const DEFAULT_PAGE: u32 = 25;
/// The largest page.
pub const MAX_PAGE: u32 = 100;

/// Which rows of a list, by keyset: `C` is the sort key of a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PageArgs<C> {
    /// How many rows at the most; 1 to [`MAX_PAGE`].
    pub size: u32,
    /// Counted from the end of the list.
    pub backward: bool,
    /// Only rows after this one.
    pub after: Option<C>,
    /// Only rows before this one.
    pub before: Option<C>,
}

/// Where a row stands in a list that people sort: by its name, or by its id, which are in the order of age.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The name as it is sorted: see [`Position::of`].
    pub name: String,
    /// Unique in the list.
    pub id: Uuid,
}

impl Position {
    /// The place of what has that name and id. The case of ASCII letters does not count; names are then compared byte by
    /// byte, which every database does alike.
    pub fn of(name: &str, id: Uuid) -> Self {
        Self { name: name.to_ascii_lowercase(), id }
    }
}

/// How people sort a list; the oldest first unless they say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Order {
    /// By name, and those of one name by age.
    pub by_name: bool,
    /// The last first.
    pub descending: bool,
}

impl Order {
    /// The same page of the list in ascending order.
    pub fn ascend<C: Clone>(self, args: &PageArgs<C>) -> PageArgs<C> {
        if self.descending { args.turned() } else { args.clone() }
    }

    /// A page of the list in ascending order, as it is asked for.
    pub fn descend<T>(self, page: Page<T>) -> Page<T> {
        if self.descending { page.turned() } else { page }
    }
}

/// Why page arguments make no page; phrased to follow the argument's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageFault {
    /// The argument.
    pub argument: &'static str,
    /// What is wrong with it and what to do.
    pub message: String,
}

impl<C> PageArgs<C> {
    /// The same page of the list turned round, in which the last row comes first.
    pub fn turned(&self) -> Self
    where
        C: Clone,
    {
        Self {
            size: self.size,
            backward: !self.backward,
            after: self.before.clone(),
            before: self.after.clone(),
        }
    }

    /// Reads Relay's four arguments; the cursors are parsed already.
    pub fn read(
        first: Option<i32>,
        last: Option<i32>,
        after: Option<C>,
        before: Option<C>,
    ) -> Result<Self, PageFault> {
        let size = |argument: &'static str, count: i32| match u32::try_from(count) {
            Ok(count @ 1..=MAX_PAGE) => Ok(count),
            _ => {
                Err(PageFault { argument, message: format!("is {count}: a page has 1 to {MAX_PAGE} items") })
            }
        };
        match (first, last) {
            (Some(_), Some(_)) => Err(PageFault {
                argument: "last",
                message: "cannot be combined with `first`: page forward or backward".to_owned(),
            }),
            (None, Some(last)) => Ok(Self { size: size("last", last)?, backward: true, after, before }),
            (Some(first), None) => Ok(Self { size: size("first", first)?, backward: false, after, before }),
            (None, None) => Ok(Self { size: DEFAULT_PAGE, backward: false, after, before }),
        }
    }
}

/// Some rows of a list, in the list's order.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Whether there are rows before the first of these.
    pub has_previous: bool,
    /// Whether there are rows after the last of these.
    pub has_next: bool,
}

impl<T> Page<T> {
    /// Makes a page of what a query answered that asked for one row more than the page has, in the
    /// direction of the page.
    pub fn cut<C>(args: &PageArgs<C>, mut rows: Vec<T>) -> Self {
        let size = args.size as usize;
        let more = rows.len() > size;
        rows.truncate(size);
        if args.backward {
            rows.reverse();
            Self { items: rows, has_previous: more, has_next: args.before.is_some() }
        } else {
            Self { items: rows, has_previous: args.after.is_some(), has_next: more }
        }
    }

    /// The same page of the list turned round; see [`PageArgs::turned`].
    pub fn turned(mut self) -> Self {
        self.items.reverse();
        Self { items: self.items, has_previous: self.has_next, has_next: self.has_previous }
    }

    /// The same page of other things.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(f).collect(),
            has_previous: self.has_previous,
            has_next: self.has_next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_one_to_a_hundred_items() {
        for count in [0, -1, 101, i32::MAX, i32::MIN] {
            assert!(PageArgs::<()>::read(Some(count), None, None, None).is_err(), "{count}");
            assert!(PageArgs::<()>::read(None, Some(count), None, None).is_err(), "{count}");
        }
        assert!(PageArgs::<()>::read(Some(100), None, None, None).is_ok());
        assert_eq!(PageArgs::<()>::read(None, None, None, None).map(|args| args.size), Ok(DEFAULT_PAGE));
    }

    #[test]
    fn the_extra_row_tells_that_there_is_more() {
        let args = PageArgs { size: 2, backward: false, after: None::<u8>, before: None };
        let page = Page::cut(&args, vec![1, 2, 3]);
        assert_eq!((page.items, page.has_previous, page.has_next), (vec![1, 2], false, true));
        let args = PageArgs { size: 2, backward: true, after: None, before: Some(4u8) };
        let page = Page::cut(&args, vec![3, 2, 1]);
        assert_eq!((page.items, page.has_previous, page.has_next), (vec![2, 3], true, true));
    }

    #[test]
    fn a_list_turned_round_is_paged_from_its_end() {
        let args = PageArgs { size: 2, backward: false, after: Some(4u8), before: None };
        let turned = args.turned();
        assert_eq!((turned.backward, turned.after, turned.before), (true, None, Some(4)));
        let page = Page::cut(&turned, vec![3, 2, 1]).turned();
        assert_eq!((page.items, page.has_previous, page.has_next), (vec![3, 2], true, true));
        assert_eq!(args.turned().turned(), args);
    }
}
