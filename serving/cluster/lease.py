"""One rollout at a time: a Lease in the namespace that serves, held by who changes what serves.

As client-go does it, no two clocks are compared: a holder is dead when its Lease has not changed
for as long as it lasts, by the clock of whoever waits.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from mtmh.errors import UserError
from serving.cluster.pods import Cluster, RolloutError

LEASE = "mtmh-deploy"
SECONDS = 60  # a Lease lasts; renewed three times as often


@contextmanager
def held(cluster: Cluster, holder: str, seconds: int = SECONDS) -> Iterator[None]:
    """Hold the Lease while this is open, as `holder`; waits for another holder to end, or to be
    dead for `seconds`.

    Raises UserError when somebody else holds it for twice `cluster.seconds` (there, and back
    again), or the account may not take it.
    """
    lease = _Lease(cluster, holder, seconds)
    lease.take()
    over = threading.Event()
    renewing = threading.Thread(target=lease.renew, args=(over,), daemon=True)
    renewing.start()
    try:
        yield
    finally:
        over.set()
        renewing.join()
        lease.leave()


@dataclass
class _Lease:
    cluster: Cluster
    holder: str
    seconds: int

    def take(self) -> None:
        """Wait until it is ours."""
        end = time.monotonic() + 2 * self.cluster.seconds
        version, changed, said = "", time.monotonic(), False
        while True:
            lease = self._read()
            other = lease.spec.holder_identity if lease else None
            if lease and lease.metadata.resource_version != version:
                version, changed = lease.metadata.resource_version, time.monotonic()
            dead = (
                lease is not None and time.monotonic() - changed > lease.spec.lease_duration_seconds
            )
            if (not other or dead) and self._write(lease, self.holder):
                return
            if time.monotonic() > end:
                raise UserError(
                    f"{other} rolls a version out and holds the Lease {LEASE} in"
                    f" {self.cluster.namespace}: nothing was changed. Run this again when it is"
                    " done."
                )
            if other and not said:
                print(f"waits until {other} has rolled its version out", flush=True)
                said = True
            time.sleep(self.cluster.pause)

    def renew(self, over: threading.Event) -> None:
        """Say again and again that its holder lives, until it is `over`."""
        while not over.wait(self.seconds / 3):
            try:
                lease = self._read()
                if lease and lease.spec.holder_identity == self.holder:
                    self._write(lease, self.holder)
            except (RolloutError, UserError) as error:  # the rollout itself says what this means
                print(f"the Lease {LEASE} could not be renewed: {error}", flush=True)

    def leave(self) -> None:
        """Let the next one take it; where the API is out of reach, it lapses."""
        try:
            lease = self._read()
            if lease and lease.spec.holder_identity == self.holder:
                self._write(lease, None)
        except (RolloutError, UserError) as error:
            print(f"the Lease {LEASE} lapses in {self.seconds} s: {error}", flush=True)

    def _read(self) -> client.V1Lease | None:
        def read() -> client.V1Lease | None:
            try:
                return self._api().read_namespaced_lease(LEASE, self.cluster.namespace)
            except ApiException as error:
                if error.status == 404:
                    return None
                raise

        return self.cluster.with_retries(read)

    def _write(self, lease: client.V1Lease | None, holder: str | None) -> bool:
        """Write it as `holder`'s; False where somebody else wrote since `lease` was read."""
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"  # the client leaves out .000000
        spec = {"holderIdentity": holder, "leaseDurationSeconds": self.seconds, "renewTime": now}
        metadata = {"name": LEASE, "labels": {"app.kubernetes.io/part-of": "mtmh"}}

        def write() -> bool:
            try:
                if lease is None:
                    body = {"metadata": metadata, "spec": spec}
                    self._api().create_namespaced_lease(self.cluster.namespace, body)
                else:
                    version = lease.metadata.resource_version
                    body = {"metadata": {**metadata, "resourceVersion": version}, "spec": spec}
                    self._api().replace_namespaced_lease(LEASE, self.cluster.namespace, body)
            except ApiException as error:
                if error.status == 409:
                    return False
                raise
            return True

        return self.cluster.with_retries(write)

    def _api(self) -> client.CoordinationV1Api:
        return client.CoordinationV1Api(self.cluster.api)
