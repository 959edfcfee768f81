//! Sessions: with what a caller signed in.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// With what a caller signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = SessionMadeOf)]
pub enum MadeOf {
    /// A root token of the deployment.
    Root,
    /// A token that the API has made.
    Token,
    /// An OpenID Connect provider.
    #[serde(rename = "openid_connect")]
    OpenIdConnect,
}

crate::names! {
    MadeOf {
        Root => "root",
        Token => "token",
        OpenIdConnect => "openid_connect",
    }
}
