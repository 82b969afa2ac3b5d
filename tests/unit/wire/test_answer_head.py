"""Heads of answers that are none."""

import pytest

from stickyroute_proxy.wire.answer import AnswerHead
from stickyroute_proxy.wire.parser import MalformedError


@pytest.mark.parametrize("status", [b"100 Continue", b"103 Early Hints", b"112 X"])
def test_http_1_0_has_no_interim_answers(status):
    """RFC 9110, section 15.2: what follows one would be read or not, by how its bytes came."""
    with pytest.raises(MalformedError, match="interim"):
        AnswerHead().read(b"HTTP/1.0 " + status, [], to_head=False)
    AnswerHead().read(b"HTTP/1.1 " + status, [], to_head=False)
