"""TLS as a client: which authorities to trust, which certificate to show."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from latprof.errors import UsageError

if TYPE_CHECKING:
    from latprof.config import Target


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """File names, empty where there is none; ``verify`` False trusts any peer."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    verify: bool = True

    @classmethod
    def of(cls, target: Target) -> TlsFiles:
        """What the configuration says of it."""
        ca, cert, key = ("" if path is None else str(path) for path in (target.ca_file, target.client_cert, target.client_key))
        return cls(ca, cert, key, target.tls_verify)


def tls_context(files: TlsFiles) -> ssl.SSLContext:
    """A context for HTTP/1.1.

    Raises:
        UsageError: a file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=files.ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"target.ca_file: {files.ca_file} cannot be used ({error}); give a file of PEM certificates") from None
    if files.cert_file:
        try:
            context.load_cert_chain(files.cert_file, files.key_file or None)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(
                f"target.client_cert: {files.cert_file} cannot be used with its key ({error}); give PEM files, the key in target.client_key"
                " unless it is in the same file"
            ) from None
    elif files.key_file:
        raise UsageError("target.client_key needs target.client_cert: give the certificate that belongs to the key")
    if not files.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context
