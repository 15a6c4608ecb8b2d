//! Every root field says in the schema who may use it, and everything in the schema says what it is.

use async_graphql::{
    Positioned, Value,
    parser::{
        parse_schema,
        types::{
            BaseType, ConstDirective, FieldDefinition, InputValueDefinition, TypeDefinition, TypeKind,
            TypeSystemDefinition,
        },
    },
};

const GUARDS: [&str; 3] = ["authorize", "signedIn", "anonymous"];

fn types() -> Vec<TypeDefinition> {
    let document = parse_schema(guildhall_graphql::sdl()).expect("the schema can be parsed");
    let definitions = document.definitions.into_iter();
    definitions
        .filter_map(|definition| match definition {
            TypeSystemDefinition::Type(of) => Some(of.node),
            _ => None,
        })
        .collect()
}

fn root_fields() -> Vec<(String, FieldDefinition)> {
    let roots = types()
        .into_iter()
        .filter(|of| ["Query", "Mutation", "Subscription"].contains(&of.name.node.as_str()));
    roots
        .flat_map(|root| match root.kind {
            TypeKind::Object(object) => object.fields,
            _ => panic!("a root is an object"),
        })
        .map(|field| (field.node.name.node.to_string(), field.node))
        .collect()
}

fn guards(field: &FieldDefinition) -> Vec<&ConstDirective> {
    let directives = field.directives.iter().map(|directive| &directive.node);
    directives.filter(|directive| GUARDS.contains(&directive.name.node.as_str())).collect()
}

#[test]
fn every_root_field_declares_exactly_one_guard() {
    let fields = root_fields();
    assert!(fields.len() > 20, "the roots were not found: {fields:?}");
    let wrong: Vec<_> =
        fields.iter().filter(|(_, field)| guards(field).len() != 1).map(|(name, _)| name).collect();
    assert!(wrong.is_empty(), "these need exactly one of @authorize, @signedIn and @anonymous: {wrong:?}");
}

#[test]
fn every_declared_permission_exists_and_every_reason_says_something() {
    let permissions: Vec<String> = types()
        .into_iter()
        .filter(|of| of.name.node == "Permission")
        .flat_map(|of| match of.kind {
            TypeKind::Enum(values) => values.values,
            _ => panic!("permissions are an enum"),
        })
        .map(|value| value.node.value.node.to_string())
        .collect();
    for (name, field) in root_fields() {
        for (argument, value) in guards(&field).into_iter().flat_map(|guard| &guard.arguments) {
            let Value::String(text) = &value.node else { panic!("{name}: {value:?}") };
            match argument.node.as_str() {
                "permission" => assert!(permissions.contains(text), "{name}: there is no permission {text}"),
                _ => assert!(text.split(' ').count() > 3, "{name}: {text:?} is no reason"),
            }
        }
    }
}

/// Notes what has no description. Arguments of root fields that take nothing but `input` are told by its type.
struct Undescribed(Vec<String>);

impl Undescribed {
    fn look(&mut self, place: &str, description: Option<&Positioned<String>>) {
        if description.is_none_or(|text| text.node.trim().is_empty()) {
            self.0.push(place.to_owned());
        }
    }

    fn inputs(&mut self, place: &str, inputs: &[Positioned<InputValueDefinition>]) {
        for input in inputs {
            let input = &input.node;
            let is_told_by_type = input.name.node == "input"
                && matches!(&input.ty.node.base, BaseType::Named(name) if name.ends_with("Input"));
            if !is_told_by_type {
                self.look(&format!("{place}.{}", input.name.node), input.description.as_ref());
            }
        }
    }

    fn fields(&mut self, place: &str, fields: &[Positioned<FieldDefinition>]) {
        for field in fields {
            let place = format!("{place}.{}", field.node.name.node);
            self.look(&place, field.node.description.as_ref());
            self.inputs(&place, &field.node.arguments);
        }
    }
}

#[test]
fn everything_in_the_schema_is_described() {
    let mut undescribed = Undescribed(Vec::new());
    for of in types() {
        let place = of.name.node.as_str();
        undescribed.look(place, of.description.as_ref());
        match &of.kind {
            TypeKind::Object(object) => undescribed.fields(place, &object.fields),
            TypeKind::Interface(interface) => undescribed.fields(place, &interface.fields),
            TypeKind::InputObject(input) => undescribed.inputs(place, &input.fields),
            TypeKind::Enum(values) => {
                for value in &values.values {
                    let place = format!("{place}.{}", value.node.value.node);
                    undescribed.look(&place, value.node.description.as_ref());
                }
            }
            TypeKind::Scalar | TypeKind::Union(_) => {}
        }
    }
    let undescribed = undescribed.0;
    assert!(undescribed.is_empty(), "these say nothing about themselves: {undescribed:#?}");
}
