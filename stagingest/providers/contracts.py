"""A response body of option contracts as a page of the option-contracts dataset."""

from stagingest.model import Chunk, Page, Request
def read(chunk: Chunk, request: Request, body: bytes) -> Page: ...
