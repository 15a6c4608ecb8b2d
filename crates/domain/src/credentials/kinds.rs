//! The kinds of credential: which fields each takes, in the order in which a form shows them. THE table: forms,
//! checks and documentation come from it.

use crate::access::policy::words;

words! {
    /// What a credential opens.
    CredentialKind {
        /// A bucket of Amazon S3, or of something that speaks its protocol.
        S3 = "S3",
        /// A bucket of Google Cloud Storage.
        Gcs = "GCS",
        /// A PostgreSQL database.
        Postgresql = "POSTGRESQL",
        /// A DHIS2 instance.
        Dhis2 = "DHIS2",
        /// An IASO instance.
        Iaso = "IASO",
        /// Anything else: its fields are yours to choose.
        Custom = "CUSTOM",
    }
}

/// What a field's value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FieldForm {
    /// One line of text.
    Text,
    /// The address of a web service: `http` or `https`, without a user name or password in it.
    Url,
    /// A TCP port, 1 to 65535.
    Port,
    /// A JSON object.
    Json,
}

/// A field that a kind of credential takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldSpec {
    /// Its code: what workloads call it.
    pub code: &'static str,
    /// What a form calls it.
    pub label: &'static str,
    /// What belongs there, in a sentence.
    pub documentation: &'static str,
    /// Whether a credential of the kind needs it.
    pub is_required: bool,
    /// Whether its value is write-only.
    pub is_secret: bool,
    /// What the value looks like.
    pub form: FieldForm,
    /// What a form may show in the empty field, or is meant where the field is left out.
    pub example: &'static str,
}

const fn field(
    code: &'static str,
    label: &'static str,
    form: FieldForm,
    example: &'static str,
    documentation: &'static str,
) -> FieldSpec {
    FieldSpec { code, label, documentation, is_required: true, is_secret: false, form, example }
}

impl FieldSpec {
    const fn secret(self) -> Self {
        Self { is_secret: true, ..self }
    }

    const fn optional(self) -> Self {
        Self { is_required: false, ..self }
    }
}

use FieldForm::{Json, Port, Text, Url};

const S3: &[FieldSpec] = &[
    field("bucket_name", "Bucket", Text, "field-data", "The name of the bucket."),
    field(
        "access_key_id",
        "Access key ID",
        Text,
        "AKIAIOSFODNN7EXAMPLE",
        "The ID of an access key that may use the bucket.",
    ),
    field("secret_access_key", "Secret access key", Text, "", "The secret of that access key.").secret(),
    field("region", "Region", Text, "eu-central-1", "The region of the bucket; us-east-1 when left out.")
        .optional(),
    field(
        "endpoint_url",
        "Endpoint",
        Url,
        "https://s3.example.org",
        "The address of a service that speaks S3's protocol; Amazon's own when left out.",
    )
    .optional(),
];

const GCS: &[FieldSpec] = &[
    field("bucket_name", "Bucket", Text, "field-data", "The name of the bucket."),
    field(
        "service_account_key",
        "Service account key",
        Json,
        "",
        "The key of a service account that may use the bucket: the JSON file as Google Cloud gives it.",
    )
    .secret(),
];

const POSTGRESQL: &[FieldSpec] = &[
    field("host", "Host", Text, "db.example.org", "The name or address of the server."),
    field("port", "Port", Port, "5432", "The port of the server; 5432 when left out.").optional(),
    field("database", "Database", Text, "analytics", "The name of the database."),
    field("username", "User", Text, "reader", "The name of the role that signs in."),
    field("password", "Password", Text, "", "The password of that role.").secret(),
    field(
        "ssl_mode",
        "TLS",
        Text,
        "verify-full",
        "`disable`, `prefer`, `require` or `verify-full`; `prefer` when left out.",
    )
    .optional(),
];

const DHIS2: &[FieldSpec] = &[
    field(
        "api_url",
        "Address",
        Url,
        "https://play.dhis2.org/demo",
        "The address of the instance, without `/api`.",
    ),
    field("username", "User", Text, "admin", "The name of the user who signs in."),
    field("password", "Password", Text, "", "The password of that user.").secret(),
];

const IASO: &[FieldSpec] = &[
    field(
        "api_url",
        "Address",
        Url,
        "https://iaso.example.org",
        "The address of the instance, without `/api`.",
    ),
    field("username", "User", Text, "admin", "The name of the user who signs in."),
    field("password", "Password", Text, "", "The password of that user.").secret(),
];

impl CredentialKind {
    /// The name people read.
    pub const fn title(self) -> &'static str {
        match self {
            Self::S3 => "S3 bucket",
            Self::Gcs => "Google Cloud Storage bucket",
            Self::Postgresql => "PostgreSQL database",
            Self::Dhis2 => "DHIS2 instance",
            Self::Iaso => "IASO instance",
            Self::Custom => "Custom",
        }
    }

    /// What it is for, in a sentence.
    pub const fn documentation(self) -> &'static str {
        match self {
            Self::S3 => {
                "Reads and writes files in a bucket of Amazon S3, or of any service that speaks its protocol."
            }
            Self::Gcs => "Reads and writes files in a bucket of Google Cloud Storage.",
            Self::Postgresql => "Signs in to a PostgreSQL database.",
            Self::Dhis2 => "Signs in to the web API of a DHIS2 instance.",
            Self::Iaso => "Signs in to the web API of an IASO instance.",
            Self::Custom => "Holds whatever fields you give it. Each is secret unless you say otherwise.",
        }
    }

    /// The fields it takes; empty for [`Self::Custom`], whose fields are chosen freely.
    pub const fn fields(self) -> &'static [FieldSpec] {
        match self {
            Self::S3 => S3,
            Self::Gcs => GCS,
            Self::Postgresql => POSTGRESQL,
            Self::Dhis2 => DHIS2,
            Self::Iaso => IASO,
            Self::Custom => &[],
        }
    }

    /// The field of that code.
    pub fn field(self, code: &str) -> Option<&'static FieldSpec> {
        self.fields().iter().find(|field| field.code == code)
    }

    /// Whether `testCredential` knows how to try it.
    pub const fn is_testable(self) -> bool {
        !matches!(self, Self::Custom)
    }
}
