"""People for tests of rooms about people: made by control itself, with a password that passes."""

from typing import Final

from hongyan.control import sign_ins, users
from hongyan.control.permissions import PLATFORM_ROLES, Role
from hongyan.control.sign_ins import Opened

from .conftest import Office

PASSWORD: Final = "seven quiet herons"
OTHER: Final = "nine loud sparrows"
EMAIL: Final = "li@example.com"
ADDRESS: Final = "192.0.2.7"


async def add(
    office: Office, email: str = EMAIL, role: Role = Role.OWNER, *, password: str = PASSWORD
) -> int:
    async with office.database.transaction() as tx:
        tenant_id = None if role in PLATFORM_ROLES else office.tenant_id
        return await users.create(
            tx, tenant_id=tenant_id, email=email, name="Li", role=role, password=password
        )


async def sign_in(
    office: Office,
    email: str = EMAIL,
    password: str = PASSWORD,
    code: str | None = None,
    *,
    address: str = ADDRESS,
) -> Opened:
    """Sign in as the door does."""
    person = await sign_ins.prove(office.database, office.vault, email, password, code, address)
    async with office.database.transaction() as tx:
        return await sign_ins.open_one(tx, office.vault, person, password, code, address)


async def found(office: Office, token: str) -> sign_ins.SignedIn | None:
    async with office.database.transaction() as tx:
        return await sign_ins.find(tx, token, ADDRESS)
