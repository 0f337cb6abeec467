"""Proof that a device logs in as the user its app server says it is.

The app server signs a JWT (ES256) with its private key and the app hands it over at login:

    {"sub": "<external id>", "aud": "<application id>", "iat": …, "exp": …}      exp at most one hour after iat

The application's settings hold the public key, and say whether logins without such a token are refused.
"""

from __future__ import annotations

from functools import lru_cache

import jwt
import jwt.exceptions
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from apps.tenants.models import Application
from automata_signal.errors import FieldProblem, Forbidden

MAX_AGE_S = 3_600
LEEWAY_S = 30
"""For clocks that differ."""
TOKEN_MAX = 4_096


@lru_cache(maxsize=1_024)
def _public_key(pem: str) -> EllipticCurvePublicKey:
    key = load_pem_public_key(pem.encode())
    assert isinstance(key, EllipticCurvePublicKey)  # the settings' own check lets no other in
    return key


def verify_identity(*, application: Application, external_id: str, identity_token: str | None) -> None:
    """Return if the device may log in as `external_id`, else raise `Forbidden`.

    Codes: IDENTITY_TOKEN_REQUIRED, IDENTITY_TOKEN_EXPIRED, IDENTITY_TOKEN_INVALID. A token that comes where none is
    required is checked all the same, if there is a key: an application can roll tokens out before it requires them.
    """
    settings = application.settings.get("identity_verification", {})
    pem = settings.get("public_key")
    if not identity_token:
        if settings.get("required"):
            raise _refusal("REQUIRED", "is needed: the application verifies who logs in")
        return
    if not pem:
        if settings.get("required"):
            raise _refusal("INVALID", "cannot be checked: the application has no verification key")
        return
    try:
        claims = jwt.decode(
            identity_token,
            _public_key(pem),
            algorithms=["ES256"],
            audience=str(application.pk),
            subject=external_id,
            leeway=LEEWAY_S,
            options={"require": ["sub", "aud", "iat", "exp"], "strict_aud": True},
        )
        age_s = int(claims["exp"]) - int(claims["iat"])
    except jwt.ExpiredSignatureError:
        raise _refusal("EXPIRED", "has expired") from None
    except jwt.MissingRequiredClaimError as error:
        raise _refusal("INVALID", f"has no claim {error.claim}") from None
    except jwt.exceptions.InvalidSubjectError:
        raise _refusal("INVALID", "is not for this external_id (sub)") from None
    except jwt.InvalidAudienceError:
        raise _refusal("INVALID", "is not for this application (aud)") from None
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError):
        raise _refusal("INVALID", "is not a JWT that the application's key signed with ES256") from None
    if not 0 < age_s <= MAX_AGE_S:
        raise _refusal("INVALID", f"may live at most {MAX_AGE_S} seconds (exp - iat)")


def _refusal(code: str, problem: str) -> Forbidden:
    details = [FieldProblem("identity_token", problem)]
    return Forbidden(f"identity_token: {problem}", code=f"IDENTITY_TOKEN_{code}", details=details)
