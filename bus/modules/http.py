"""Asks web servers."""

from __future__ import annotations

from typing import Any

from bus.modules import _http


def query(url: str, **options: Any) -> dict[str, Any]:
    """Send a request to a web server and return what it answers.

    CLI example: ``reactor cmd web1 http.query https://api.example.com/ decode=True status=True``

    Args:
        url: the address, with http or https.
        **options: ``method`` (``GET``); ``params`` (a dict for the address); ``data`` (text, or a
            dict that is sent as a form, or as JSON if the content type says so); ``data_file``;
            ``header_dict``; ``header_list`` (``["Name: value"]``); ``username`` and
            ``password``; ``decode`` with ``decode_type`` (``auto``, ``json``, ``yaml``,
            ``plain``); ``status``, ``headers`` and ``text`` (add these to the return);
            ``timeout`` (seconds, 30); ``verify_ssl``; ``ca_bundle``; ``raise_error`` (a server
            that cannot be reached is an error of the job).

    Returns:
        ``body``, or ``dict`` when decoded; ``error`` and ``status`` when the server refused.
    """
    return _http.query(url, **_http.known_options(options))


def wait_for_successful_query(
    url: str, wait_for: float = 300, request_interval: float = 1, **options: Any
) -> dict[str, Any]:
    """Ask a web server again and again until it answers well; options as for ``http.query``.

    CLI example: ``reactor cmd web1 http.wait_for_successful_query http://localhost:8080/ready``
    """
    return _http.wait_for(
        url,
        _http.known_options(options),
        wait_for=wait_for,
        request_interval=request_interval,
    )
