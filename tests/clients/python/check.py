"""redis-py against kvs-server: check.py HOST PORT [PASSWORD [AUTHORITY]]. With an authority's file it speaks TLS. Ends with an error at the first thing that is not as it should be."""

import asyncio
import sys
import threading

import redis
import redis.asyncio

HOST, PORT = sys.argv[1], int(sys.argv[2])
PASSWORD, AUTHORITY = (sys.argv[3:] + ["", ""])[:2]
# How every connection is made.
SECURITY = {"password": PASSWORD or None} | ({"ssl": True, "ssl_ca_certs": AUTHORITY} if AUTHORITY else {})
ALL = bytes(range(256))


def refused(call, words):
    """What must be an error that says so."""
    try:
        answer = call()
    except redis.RedisError as error:
        assert words in str(error), f"{words!r} is not in {error!r}"
    else:
        raise AssertionError(f"no error, but {answer!r}")


def text(answer):
    """What the library leaves as bytes with one version of the protocol, and not with the other."""
    if isinstance(answer, dict):
        return {text(name): text(value) for name, value in answer.items()}
    return answer.decode() if isinstance(answer, bytes) else answer


def commands(r):
    assert r.flushdb() is True
    assert r.ping() is True
    assert r.echo(b"hello\r\n") == b"hello\r\n"
    assert r.get("nobody") is None
    assert r.set(ALL, ALL) is True
    assert r.get(ALL) == ALL
    assert r.strlen(ALL) == 256
    assert r.set("k", "1", nx=True) is True
    assert r.set("k", "2", nx=True) is None
    assert r.set("none", "2", xx=True) is None
    assert r.set("k", "3", xx=True) is True
    assert r.set("k", "4", get=True) == b"3"
    assert r.getdel("k") == b"4"
    assert r.getdel("k") is None
    assert r.mset({"a": 1, "b": 2.5, "c": b"\x00\xff"}) is True
    assert r.mget("a", "nobody", "c") == [b"1", None, b"\x00\xff"]
    assert r.exists("a", "b", "nobody", "a") == 3
    assert r.delete("a", "nobody", "b") == 2
    assert r.dbsize() == 2
    assert r.set("large", b"x" * 1_000_000) is True
    assert r.strlen("large") == 1_000_000 and r.get("large") == b"x" * 1_000_000
    refused(lambda: r.set("larger", b"x" * 1_048_577), "larger than the limit")
    refused(lambda: r.incr("n"), "unknown command 'INCR")
    refused(lambda: r.set("k", "v", ex=10), "syntax error")
    refused(lambda: r.execute_command("GET"), "wrong number of arguments")
    assert r.flushdb(asynchronous=True) is True
    assert r.dbsize() == 0


def scans(r):
    keys = {b"user:%d" % number for number in range(2_000)}
    with r.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.set(key, b"v")
        pipe.set("other", "v")
        assert all(pipe.execute())
    found = list(r.scan_iter(match="user:*", count=100))
    assert len(found) == len(keys) and set(found) == keys
    assert len(list(r.scan_iter())) == 2_001
    assert r.dbsize() == 2_001


def pipelines(r):
    with r.pipeline(transaction=False) as pipe:
        for number in range(1_000):
            pipe.set("n", number)
            pipe.get("n")
        answers = pipe.execute()
    assert answers[1::2] == [b"%d" % number for number in range(1_000)]
    # An error in a pipeline belongs to its own command.
    with r.pipeline(transaction=False) as pipe:
        pipe.set("n", 1).incr("n").get("n")
        answers = pipe.execute(raise_on_error=False)
    assert answers[0] is True and isinstance(answers[1], redis.ResponseError) and answers[2] == b"1"
    with r.pipeline(transaction=True) as pipe:
        refused(pipe.set("n", 2).execute, "unknown command")
    assert r.get("n") in (b"1", b"2")


def connection(r):
    assert r.client_setname("checker") is True
    assert text(r.client_getname()) == "checker"
    assert isinstance(r.client_id(), int)
    assert r.info()["redis_version"] == "7.0.0"
    assert r.info("server")["engine"] == "kvs"
    assert text(r.config_get("append*")) == {"appendonly": "yes"}
    assert r.command_count() > 20
    assert r.select(0) is True
    refused(lambda: r.select(1), "DB index is out of range")
    refused(lambda: r.config_set("save", ""), "unknown subcommand")
    assert r.ping() is True


def threads(r):
    """Many threads on one pool of connections: one of them wins a key that is missing."""
    r.delete("lock")
    wins, errors = [], []

    def work(number):
        try:
            for round_number in range(50):
                r.set(f"{number}/{round_number}", number)
                assert r.get(f"{number}/{round_number}") == b"%d" % number
            if r.set("lock", number, nx=True):
                wins.append(number)
        except Exception as error:
            errors.append(error)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not errors, errors
    assert len(wins) == 1 and r.get("lock") == b"%d" % wins[0]


async def asynchronous():
    r = redis.asyncio.Redis(host=HOST, port=PORT, **SECURITY)
    await asyncio.gather(*(r.set(f"async/{number}", number) for number in range(100)))
    values = await r.mget([f"async/{number}" for number in range(100)])
    assert values == [b"%d" % number for number in range(100)]
    await r.aclose()


def main():
    # As it comes, and with each version of the protocol.
    for version in ({}, {"protocol": 2}, {"protocol": 3}):
        r = redis.Redis(HOST, PORT, **version, **SECURITY)
        for part in (commands, scans, pipelines, connection, threads):
            part(r)
    asyncio.run(asynchronous())
    r.flushdb()
    print(f"redis-py {redis.__version__}: all well")


main()
