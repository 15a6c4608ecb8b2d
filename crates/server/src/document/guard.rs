//! The guard before the parser: bounds a document by its tokens, in one pass and without recursion. Knows lexical
//! GraphQL, and of its grammar only where definitions and spreads stand. Refuses to judge anything else: what it lets
//! through can still be wrong, but not dangerous.

use std::collections::{HashMap, HashSet};

use async_graphql::{Pos, ServerError};

use crate::{
    errors::{Code, coded},
    limits::DocumentLimits,
};

/// Refuses a text that is too long even to be hashed.
pub fn bytes(text: &str, limits: &DocumentLimits) -> Result<(), ServerError> {
    if text.len() > limits.bytes {
        let message = format!("The document may have {} bytes, it has {}.", limits.bytes, text.len());
        return Err(coded(Code::QueryTooComplex, message, None));
    }
    Ok(())
}

/// Checks every bound but the bytes. Returns the number of tokens.
pub fn check(text: &str, limits: &DocumentLimits) -> Result<usize, ServerError> {
    let mut lexer = Lexer { text, at: 0 };
    let mut outline = Outline::default();
    let (mut tokens, mut depth) = (0, 0_usize);
    let mut before = Before::Definition;
    let mut literals = Literals::default();
    loop {
        let start = lexer.skip_ignored();
        let Some(token) = lexer.next()? else { break };
        tokens += 1;
        if tokens > limits.tokens {
            while lexer.next()?.is_some() {
                tokens += 1;
            }
            let message = format!("The document may have {} tokens, it has {tokens}.", limits.tokens);
            return Err(coded(Code::QueryTooComplex, message, Some(position(text, start))));
        }
        // Names that begin so are the specification's own, so nothing else can be called that.
        if let Token::Name(name @ ("__schema" | "__type")) = token
            && !limits.introspection
        {
            let message = format!("“{name}” is not answered: introspection is turned off here.");
            return Err(coded(Code::ValidationFailed, message, Some(position(text, start))));
        }
        before = match (before, token) {
            (Before::Definition, Token::Name("fragment")) => Before::FragmentName,
            (Before::Definition, Token::Name("query" | "mutation" | "subscription") | Token::Open) => {
                outline.operation();
                Before::Anything
            }
            // Not left to the parser: it reads `fragmentA` as `fragment A`, which would pass uncounted.
            (Before::Definition, _) => {
                return Err(syntax(
                    text,
                    start,
                    "expected “query”, “mutation”, “subscription”, “fragment” or “{”",
                ));
            }
            (Before::FragmentName, Token::Name("on")) => {
                return Err(syntax(text, start, "a fragment cannot be named “on”"));
            }
            (Before::FragmentName, Token::Name(name)) => {
                outline.fragment(name);
                Before::Anything
            }
            (_, Token::Spread) => Before::SpreadName,
            (Before::SpreadName, Token::Name(name)) if name != "on" => {
                outline.spread(name);
                Before::Anything
            }
            _ => Before::Anything,
        };
        outline.token();
        if let Some(name) = literals.twice(token, text.as_bytes()[start]) {
            let message = format!("An input object has the field “{name:.64}” more than once.");
            return Err(coded(Code::ValidationFailed, message, Some(position(text, start))));
        }
        match token {
            Token::Open => {
                depth += 1;
                if depth > limits.nesting {
                    let message = format!(
                        "Brackets may be nested at most {} levels deep, these reach {depth}.",
                        limits.nesting
                    );
                    return Err(coded(Code::QueryTooComplex, message, Some(position(text, start))));
                }
            }
            Token::Close => {
                depth = depth
                    .checked_sub(1)
                    .ok_or_else(|| syntax(text, start, "a bracket closes that was never opened"))?;
                if depth == 0 && text.as_bytes().get(start) == Some(&b'}') {
                    before = Before::Definition;
                }
            }
            _ => {}
        }
    }
    if depth > 0 {
        return Err(syntax(text, text.len(), "a bracket is never closed"));
    }
    outline.check(limits)?;
    Ok(tokens)
}

/// What the next token can mean.
#[derive(Clone, Copy)]
enum Before {
    Definition,
    FragmentName,
    SpreadName,
    Anything,
}

/// The input objects that are open, to find a field that one has twice: of the two no validation here knows, and each reader
/// would take another one.
#[derive(Default)]
struct Literals<'a> {
    /// For each open bracket the fields so far; none when it is no input object.
    open: Vec<Option<HashSet<&'a str>>>,
    /// How many of them are parentheses: braces inside of one are input objects.
    parentheses: usize,
    before: Option<&'a str>,
}

impl<'a> Literals<'a> {
    /// The field that this token names again.
    fn twice(&mut self, token: Token<'a>, first: u8) -> Option<&'a str> {
        let before = self.before.take();
        match token {
            Token::Open => {
                self.parentheses += usize::from(first == b'(');
                self.open.push((first == b'{' && self.parentheses > 0).then(HashSet::new));
            }
            Token::Close => {
                self.parentheses = self.parentheses.saturating_sub(usize::from(first == b')'));
                self.open.pop();
            }
            Token::Name(name) => self.before = Some(name),
            Token::Other if first == b':' => {
                let fields = self.open.last_mut().and_then(Option::as_mut)?;
                return before.filter(|name| !fields.insert(name));
            }
            Token::Other | Token::Spread => {}
        }
        None
    }
}

/// Which definitions spread which fragments, and how large each is.
#[derive(Default)]
struct Outline<'a> {
    /// Index of a fragment by its name, spread or defined.
    names: HashMap<&'a str, usize>,
    fragments: Vec<Part<'a>>,
    operations: Vec<Part<'a>>,
    /// The fragment whose definition is being read; none in an operation.
    current: Option<usize>,
    defined: usize,
}

#[derive(Default)]
struct Part<'a> {
    name: &'a str,
    tokens: usize,
    spreads: Vec<usize>,
}

/// What a definition amounts to with every spread in its place.
#[derive(Default, Clone, Copy)]
struct Expanded {
    tokens: usize,
    spreads: usize,
}

impl<'a> Outline<'a> {
    fn operation(&mut self) {
        self.operations.push(Part::default());
        self.current = None;
    }

    fn fragment(&mut self, name: &'a str) {
        self.defined += 1;
        self.current = Some(self.index(name));
    }

    fn spread(&mut self, name: &'a str) {
        let index = self.index(name);
        if let Some(part) = self.part() {
            part.spreads.push(index);
        }
    }

    fn token(&mut self) {
        if let Some(part) = self.part() {
            part.tokens += 1;
        }
    }

    fn part(&mut self) -> Option<&mut Part<'a>> {
        match self.current {
            Some(index) => self.fragments.get_mut(index),
            None => self.operations.last_mut(),
        }
    }

    fn index(&mut self, name: &'a str) -> usize {
        *self.names.entry(name).or_insert_with(|| {
            self.fragments.push(Part { name, ..Part::default() });
            self.fragments.len() - 1
        })
    }

    fn check(&self, limits: &DocumentLimits) -> Result<(), ServerError> {
        let too_complex = |message| Err(coded(Code::QueryTooComplex, message, None));
        if self.defined > limits.fragments {
            let message =
                format!("The document may have {} fragments, it has {}.", limits.fragments, self.defined);
            return too_complex(message);
        }
        let fragments = self.expand_fragments()?;
        let whole = self.operations.iter().map(|part| part.expand(&fragments)).fold(
            Expanded::default(),
            |sum, part| Expanded {
                tokens: sum.tokens.saturating_add(part.tokens),
                spreads: sum.spreads.saturating_add(part.spreads),
            },
        );
        // A fragment is validated on its own too, so one that no operation spreads is held to the same bounds.
        for Expanded { tokens, spreads } in fragments.into_iter().chain([whole]) {
            if spreads > limits.spreads {
                let message = format!(
                    "The document may expand to {} fragment spreads, it has {spreads}.",
                    limits.spreads
                );
                return too_complex(message);
            }
            if tokens > limits.expanded_tokens {
                let message =
                    format!("The document may expand to {} tokens, it has {tokens}.", limits.expanded_tokens);
                return too_complex(message);
            }
        }
        Ok(())
    }

    /// Expands each fragment once, those first whose spreads are all expanded. When none is left to expand but some
    /// remain, these spread each other in a circle.
    fn expand_fragments(&self) -> Result<Vec<Expanded>, ServerError> {
        let mut expanded = vec![Expanded::default(); self.fragments.len()];
        let mut done = vec![false; self.fragments.len()];
        loop {
            let mut progress = false;
            let mut waiting = None;
            for (index, part) in self.fragments.iter().enumerate() {
                if done[index] {
                    continue;
                }
                if part.spreads.iter().all(|&spread| done[spread]) {
                    expanded[index] = part.expand(&expanded);
                    done[index] = true;
                    progress = true;
                } else {
                    waiting = Some(part.name);
                }
            }
            match waiting {
                None => return Ok(expanded),
                Some(name) if !progress => {
                    let message =
                        format!("The fragment “{name:.64}” spreads itself, directly or through others.");
                    return Err(coded(Code::ValidationFailed, message, None));
                }
                Some(_) => {}
            }
        }
    }
}

impl Part<'_> {
    fn expand(&self, fragments: &[Expanded]) -> Expanded {
        let own = Expanded { tokens: self.tokens, spreads: self.spreads.len() };
        self.spreads.iter().fold(own, |sum, &spread| Expanded {
            tokens: sum.tokens.saturating_add(fragments[spread].tokens),
            spreads: sum.spreads.saturating_add(fragments[spread].spreads),
        })
    }
}

#[derive(Clone, Copy)]
enum Token<'a> {
    Open,
    Close,
    Spread,
    Name(&'a str),
    Other,
}

/// GraphQL's lexical grammar, read exactly as the parser reads it: where the two disagreed, brackets could hide.
struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    /// Passes white space, commas, byte order marks and comments; returns where the next token starts.
    fn skip_ignored(&mut self) -> usize {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            match byte {
                b' ' | b'\t' | b',' | b'\n' | b'\r' => self.at += 1,
                b'#' => self.pass(|byte| byte != b'\n' && byte != b'\r'),
                _ if bytes[self.at..].starts_with("\u{feff}".as_bytes()) => self.at += '\u{feff}'.len_utf8(),
                _ => break,
            }
        }
        self.at
    }

    fn next(&mut self) -> Result<Option<Token<'a>>, ServerError> {
        let start = self.skip_ignored();
        let bytes = self.text.as_bytes();
        let Some(&byte) = bytes.get(start) else { return Ok(None) };
        let token = match byte {
            b'{' | b'[' | b'(' => self.one(Token::Open),
            b'}' | b']' | b')' => self.one(Token::Close),
            b'!' | b'$' | b'&' | b':' | b'=' | b'@' | b'|' => self.one(Token::Other),
            b'.' if bytes[start..].starts_with(b"...") => {
                self.at += 3;
                Token::Spread
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                self.pass(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
                Token::Name(&self.text[start..self.at])
            }
            b'-' | b'0'..=b'9' => {
                self.number();
                Token::Other
            }
            b'"' => {
                self.string()?;
                Token::Other
            }
            _ => return Err(syntax(self.text, start, "unexpected character")),
        };
        Ok(Some(token))
    }

    fn one(&mut self, token: Token<'a>) -> Token<'a> {
        self.at += 1;
        token
    }

    fn pass(&mut self, accept: impl Fn(u8) -> bool) {
        self.at += self.text.as_bytes()[self.at..].iter().take_while(|&&byte| accept(byte)).count();
    }

    /// Whether it is a well-formed number is the parser's matter.
    fn number(&mut self) {
        self.pass(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'e' | b'E'));
        let rest = &self.text.as_bytes()[self.at..];
        if rest.first() == Some(&b'.') && rest.get(1).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
            self.pass(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'e' | b'E'));
        }
    }

    fn string(&mut self) -> Result<(), ServerError> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let block = bytes[start..].starts_with(b"\"\"\"");
        self.at += if block { 3 } else { 1 };
        while let Some(&byte) = bytes.get(self.at) {
            let rest = &bytes[self.at..];
            match byte {
                b'"' if !block => {
                    self.at += 1;
                    return Ok(());
                }
                b'"' if rest.starts_with(b"\"\"\"") => {
                    self.at += 3;
                    return Ok(());
                }
                b'\\' if block && rest.starts_with(b"\\\"\"\"") => self.at += 4,
                b'\n' | b'\r' if !block => break,
                b'\\' if !block && rest.len() > 1 && !matches!(rest[1], b'\n' | b'\r') => self.at += 2,
                _ => self.at += 1,
            }
        }
        Err(syntax(self.text, start, "a string is never closed"))
    }
}

fn syntax(text: &str, at: usize, what: &str) -> ServerError {
    coded(Code::ParseFailed, format!("Syntax error: {what}."), Some(position(text, at)))
}

/// Line and column, both from 1.
fn position(text: &str, at: usize) -> Pos {
    let before = &text.as_bytes()[..at.min(text.len())];
    let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
    let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
    // Characters are counted by the bytes that begin one.
    let column = before[line_start..].iter().filter(|&&byte| byte & 0xc0 != 0x80).count() + 1;
    Pos { line, column }
}
