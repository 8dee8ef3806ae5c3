"""An identity provider: a signing key, the key set that it publishes, and the tokens that it signs."""

import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

ISSUER, AUDIENCE = "https://id.example.org", "stillpoint"


class Issuer:
    """Signs with ES256 under one key id."""

    def __init__(self, key_id: str = "k1") -> None:
        self.key_id = key_id
        self.key = ec.generate_private_key(ec.SECP256R1())

    @property
    def public(self) -> dict[str, Any]:
        """The public key as a JSON Web Key."""
        written = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256).to_jwk(
            self.key.public_key(), as_dict=True
        )
        return {**written, "kid": self.key_id, "alg": "ES256", "use": "sig"}

    def key_set(self) -> bytes:
        """The published key set."""
        return json.dumps({"keys": [self.public]}).encode()

    def token(self, subject: str = "recommender", scope: str = "read", **changes: Any) -> str:
        """Return a signed token; a change to None leaves a claim out."""
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": subject,
            "scope": scope,
            "exp": int(time.time()) + 300,
            **changes,
        }
        kept = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(kept, self.key, algorithm="ES256", headers={"kid": self.key_id})
