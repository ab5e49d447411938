"""Jobs about gateways: their news, and payers' methods there. What they do is in dues/payments."""

from uuid import UUID

from dues.jobs import Run, kinds
from dues.payments import hooks, setups
from workers.job import job


@job(kinds.GATEWAY_NEWS)
def news(run: Run, gateway: str, store_id: str, account_id: str | None, about: str, name: str) -> None:
    hooks.act(run, gateway, UUID(store_id), UUID(account_id) if account_id else None, about, name)


@job(kinds.GATEWAY_SWEEPS)
def sweeps(run: Run) -> dict[str, int]:
    return hooks.offer_sweeps()


@job(kinds.GATEWAY_SWEEP)
def sweep(run: Run, gateway: str, store_id: str, account_id: str | None) -> dict[str, int]:
    return hooks.sweep(run, gateway, UUID(store_id), UUID(account_id) if account_id else None)


@job(kinds.PAYMENT_SETUP)
def set_up(run: Run, store_id: str, setup_id: str) -> None:
    setups.process_setup(run, UUID(store_id), UUID(setup_id))


@job(kinds.PAYMENT_METHOD_DETACH)
def detach(run: Run, store_id: str, account_id: str, reference: str) -> None:
    setups.detach(UUID(store_id), UUID(account_id), reference)
