//! Sign-in with an OpenID Connect provider: the authorization code flow with PKCE (S256), state and nonce.
//!
//! The provider is what the operator has configured. Its metadata and keys are fetched when they are first needed, and
//! kept for a while. Nothing else of the relay depends on it.

mod claims;
pub(crate) mod http_client;

use std::sync::Arc;
use std::time::{Duration, Instant};

use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreClientAuthMethod, CoreErrorResponseType,
    CoreGenderClaim, CoreJsonWebKey, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreProviderMetadata,
    CoreRevocableToken, CoreRevocationErrorResponse, CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AuthType, AuthorizationCode, ClaimsVerificationError, Client, ClientId, ClientSecret, ConfigurationError,
    CsrfToken, EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet, EndpointSet, IdTokenFields, IssuerUrl, Nonce,
    OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RequestTokenError, Scope,
    StandardErrorResponse, StandardTokenResponse, TokenResponse as _, UserInfoClaims, UserInfoError,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Semaphore};
use url::Url;

use self::claims::AllClaims;
pub use self::claims::User;
use self::http_client::HttpClient;
use crate::config::OidcConfig;

/// The path at which a sign-in begins.
pub const START: &str = "/auth/oidc/start";

/// The path to which the provider sends the browser back.
pub const CALLBACK: &str = "/auth/oidc/callback";

/// The time limit of a request to the provider.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);

/// How long the metadata and the keys of the provider are used before they are fetched again.
pub(crate) const FRESH_FOR: Duration = Duration::from_secs(3_600);

/// How long they are used if they cannot be fetched again.
pub(crate) const KNOWN_FOR: Duration = Duration::from_secs(24 * 3_600);

/// The provider is asked again for its metadata this long after a failure, and for a key that it has not had before.
pub(crate) const ASKED_AGAIN: Duration = Duration::from_secs(2);

/// The signatures of ID tokens that are accepted: those with a key pair. A shared secret is also known to the
/// provider's other clients in some set-ups.
const SIGNATURES: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

type Fields = IdTokenFields<
    AllClaims,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;

type Tokens = StandardTokenResponse<Fields, CoreTokenType>;

/// The relay as a client of the provider.
type ProviderClient = Client<
    AllClaims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    Tokens,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// What a sign-in must remember until the browser comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// The browser brings it back, so that the answer belongs to this sign-in.
    pub state: String,
    /// The ID token contains it, so that the token was made for this sign-in.
    pub nonce: String,
    /// Proves to the provider that the code is exchanged by the one who began.
    pub verifier: String,
}

/// Why a sign-in fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The provider does not answer, or does not answer as a provider does.
    Provider(String),
    /// The provider does not accept the code.
    Code(String),
    /// The ID token is not one for this sign-in.
    IdToken(String),
}

/// The provider.
pub struct Oidc {
    settings: OidcConfig,
    issuer: IssuerUrl,
    redirect: RedirectUrl,
    http: HttpClient,
    known: Mutex<Known>,
    /// Bounds the exchanges of codes at one time: anyone can begin a sign-in and send a code.
    exchanges: Semaphore,
}

/// What is known of the provider.
#[derive(Default)]
struct Known {
    metadata: Option<(Arc<CoreProviderMetadata>, Instant)>,
    failed: Option<(String, Instant)>,
    /// When the metadata was last fetched because of an unknown key.
    new_key_at: Option<Instant>,
}

/// The most exchanges of codes at one time. Others wait.
pub(crate) const EXCHANGES: usize = 16;

/// For what the metadata is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// For a sign-in.
    SignIn,
    /// For a key that is not among the known ones. Anyone can send the provider's users here, so this has a rate.
    NewKey,
    /// For a check of the provider as it is now.
    Check,
}

/// Whether metadata that was fetched at `at` does for this need.
fn is_enough(need: Need, at: Instant, new_key_at: Option<Instant>, now: Instant) -> bool {
    match need {
        Need::SignIn => now.duration_since(at) < FRESH_FOR,
        Need::NewKey => new_key_at.is_some_and(|last| now.duration_since(last) < ASKED_AGAIN),
        Need::Check => false,
    }
}

impl Oidc {
    /// A client of the provider of the settings. It is not reached yet.
    ///
    /// # Errors
    /// Returns an error if the settings have no valid URL, or if TLS cannot be set up on this machine.
    pub fn new(settings: &OidcConfig) -> Result<Self, String> {
        let redirect = settings.public_url.join(CALLBACK).map_err(|error| error.to_string())?;
        Ok(Self {
            settings: settings.clone(),
            issuer: IssuerUrl::new(settings.issuer.clone()).map_err(|error| error.to_string())?,
            redirect: RedirectUrl::from_url(redirect),
            http: HttpClient::new(TIMEOUT).map_err(|error| error.to_string())?,
            known: Mutex::default(),
            exchanges: Semaphore::new(EXCHANGES),
        })
    }

    /// The settings of the sign-in.
    #[must_use]
    pub fn settings(&self) -> &OidcConfig {
        &self.settings
    }

    /// Begins a sign-in. Returns the URL to which the browser goes, and what to remember until it comes back.
    ///
    /// # Errors
    /// Returns an error if the provider cannot be reached.
    pub async fn begin(&self) -> Result<(Url, Flow), Failure> {
        let client = self.client(&*self.metadata(Need::SignIn).await?);
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let request =
            client.authorize_url(CoreAuthenticationFlow::AuthorizationCode, CsrfToken::new_random, Nonce::new_random);
        let scopes = self.settings.scopes.iter().map(|scope| Scope::new(scope.clone()));
        let (url, state, nonce) = request.add_scopes(scopes).set_pkce_challenge(challenge).url();
        let flow = Flow { state: state.into_secret(), nonce: nonce.secret().clone(), verifier: verifier.into_secret() };
        Ok((url, flow))
    }

    /// Ends a sign-in: exchanges the code, verifies the ID token, and returns the user.
    ///
    /// # Errors
    /// Returns an error if the provider cannot be reached or refuses the code, or if its ID token is not one for this
    /// sign-in.
    pub async fn finish(&self, flow: Flow, code: &str) -> Result<User, Failure> {
        let _place = tokio::time::timeout(TIMEOUT, self.exchanges.acquire())
            .await
            .map_err(|_| Failure::Provider("too many sign-ins end at one time".to_owned()))?;
        let mut client = self.client(&*self.metadata(Need::SignIn).await?);
        let request = client.exchange_code(AuthorizationCode::new(code.to_owned())).map_err(incomplete)?;
        let request = request.set_pkce_verifier(PkceCodeVerifier::new(flow.verifier));
        let tokens = request.request_async(&self.http).await.map_err(|error| match error {
            // The settings of the relay are wrong, and not the code.
            RequestTokenError::ServerResponse(answer)
                if matches!(
                    answer.error(),
                    CoreErrorResponseType::InvalidClient | CoreErrorResponseType::UnauthorizedClient
                ) =>
            {
                Failure::Provider(format!("the provider refuses the client: {answer}"))
            }
            RequestTokenError::ServerResponse(answer) => Failure::Code(answer.to_string()),
            error @ (RequestTokenError::Request(_) | RequestTokenError::Parse(..) | RequestTokenError::Other(_)) => {
                Failure::Provider(chain(&error))
            }
        })?;
        let nonce = Nonce::new(flow.nonce);
        let user = match self.user(&client, &tokens, &nonce) {
            // The provider may have a new key.
            Err(ClaimsVerificationError::SignatureVerification(_)) => {
                client = self.client(&*self.metadata(Need::NewKey).await?);
                self.user(&client, &tokens, &nonce)
            }
            user => user,
        };
        let user = user.map_err(|error| Failure::IdToken(chain(&error)))?;
        self.with_groups(&client, &tokens, user).await
    }

    /// Checks that the provider can be reached. Returns what was found.
    ///
    /// # Errors
    /// Returns why it cannot be used.
    pub async fn check(&self) -> Result<String, String> {
        match self.metadata(Need::Check).await {
            Ok(metadata) if metadata.token_endpoint().is_none() => {
                Err("the provider names no token endpoint".to_owned())
            }
            Ok(metadata) => Ok(format!("{} has {} keys", self.settings.issuer, metadata.jwks().keys().len())),
            Err(Failure::Provider(error) | Failure::Code(error) | Failure::IdToken(error)) => Err(error),
        }
    }

    /// The metadata and the keys of the provider.
    async fn metadata(&self, need: Need) -> Result<Arc<CoreProviderMetadata>, Failure> {
        // Held while they are fetched, so that they are fetched once.
        let mut known = self.known.lock().await;
        let now = Instant::now();
        if let Some((metadata, at)) = &known.metadata
            && is_enough(need, *at, known.new_key_at, now)
        {
            return Ok(Arc::clone(metadata));
        }
        if need == Need::NewKey {
            known.new_key_at = Some(now);
        }
        let failed = known.failed.take().filter(|(_, at)| now.duration_since(*at) < ASKED_AGAIN);
        let fetched = match failed {
            Some(failed) => Err(failed),
            None => self.fetch().await.map_err(|error| (error, Instant::now())),
        };
        let (error, at) = match fetched {
            Ok(metadata) => {
                let metadata = Arc::new(metadata);
                known.metadata = Some((Arc::clone(&metadata), Instant::now()));
                return Ok(metadata);
            }
            Err(failed) => failed,
        };
        known.failed = Some((error.clone(), at));
        match &known.metadata {
            Some((metadata, at)) if need != Need::Check && now.duration_since(*at) < KNOWN_FOR => {
                tracing::warn!(error, "the metadata of the OpenID Connect provider could not be fetched again");
                Ok(Arc::clone(metadata))
            }
            Some(_) | None => Err(Failure::Provider(error)),
        }
    }

    async fn fetch(&self) -> Result<CoreProviderMetadata, String> {
        let fetched = CoreProviderMetadata::discover_async(self.issuer.clone(), &self.http).await;
        fetched.map_err(|error| format!("{}: {}", self.settings.issuer, chain(&error)))
    }

    fn client(&self, metadata: &CoreProviderMetadata) -> ProviderClient {
        let (id, secret) = (&self.settings.client_id, self.settings.client_secret.as_ref());
        let secret = secret.map(|secret| ClientSecret::new(secret.reveal().to_owned()));
        let client = Client::from_provider_metadata(metadata.clone(), ClientId::new(id.clone()), secret);
        let methods = metadata.token_endpoint_auth_methods_supported();
        let takes = |method| methods.is_none_or(|methods| methods.contains(&method));
        let in_body = !takes(CoreClientAuthMethod::ClientSecretBasic) && takes(CoreClientAuthMethod::ClientSecretPost);
        let by = if in_body { AuthType::RequestBody } else { AuthType::BasicAuth };
        client.set_redirect_uri(self.redirect.clone()).set_auth_type(by)
    }

    /// The user whom the ID token names, if the token is valid: issuer, audience, nonce, signature and expiry.
    fn user(&self, client: &ProviderClient, tokens: &Tokens, nonce: &Nonce) -> Result<User, ClaimsVerificationError> {
        let missing = || ClaimsVerificationError::Other("the provider sent no ID token".to_owned());
        let verifier = client.id_token_verifier().set_allowed_algs(SIGNATURES);
        let claims = tokens.id_token().ok_or_else(missing)?.claims(&verifier, nonce)?;
        let text = |text: Option<&str>| text.map(str::to_owned);
        let name = text(claims.preferred_username().map(|name| name.as_str()))
            .or_else(|| text(claims.email().map(|email| email.as_str())));
        let groups = claims::groups(claims.additional_claims(), &self.settings.groups_claim);
        Ok(User::new(claims.subject().as_str(), name, groups))
    }

    /// The user with the groups of the provider's user info, if the ID token has none. Some providers send claims only
    /// there.
    async fn with_groups(&self, client: &ProviderClient, tokens: &Tokens, user: User) -> Result<User, Failure> {
        if user.groups.is_some() || client.user_info_url().is_none() {
            return Ok(user);
        }
        let subject = openidconnect::SubjectIdentifier::new(user.subject.clone());
        let request = client.user_info(tokens.access_token().clone(), Some(subject)).map_err(incomplete)?;
        let info: UserInfoClaims<AllClaims, CoreGenderClaim> =
            request.request_async(&self.http).await.map_err(|error| match error {
                UserInfoError::ClaimsVerification(error) => Failure::IdToken(chain(&error)),
                error @ (UserInfoError::Request(_)
                | UserInfoError::Parse(_)
                | UserInfoError::Response(..)
                | UserInfoError::Other(_)
                | _) => Failure::Provider(chain(&error)),
            })?;
        let groups = claims::groups(info.additional_claims(), &self.settings.groups_claim);
        let name = info.preferred_username().map(|name| name.to_string());
        let name = user.name.or(name).or_else(|| info.email().map(|email| email.to_string()));
        Ok(User::new(&user.subject, name, groups))
    }
}

fn incomplete(error: ConfigurationError) -> Failure {
    Failure::Provider(format!("the metadata of the provider is incomplete: {error}"))
}

/// The text of an error with those of its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_fetched_again_after_a_while_and_for_an_unknown_key_at_a_rate() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let now = start + FRESH_FOR;
        assert!(is_enough(Need::SignIn, start + second, None, now) && !is_enough(Need::SignIn, start, None, now));
        assert!(!is_enough(Need::NewKey, now, None, now), "also if it was fetched for another reason just now");
        assert!(is_enough(Need::NewKey, now, Some(now), now + second));
        assert!(!is_enough(Need::NewKey, now, Some(now), now + ASKED_AGAIN));
        assert!(!is_enough(Need::Check, now, Some(now), now));
    }
}
