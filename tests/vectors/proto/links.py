#!/usr/bin/env python3
"""Makes links.txt, the test vectors of protocol sections 3 to 5, 6.4 and 6.5, from the specification alone.

Written apart from the Rust code, on the primitives of circuits.py: Noise XK from the Noise specification (revision 34), Ed25519
from RFC 8032, BLAKE3's longer outputs from its paper. No library. Slow, not constant time, for vectors only.
Run: python3 links.py > links.txt
"""
import hashlib
import hmac
import ipaddress
import struct

import circuits
from circuits import BASE, IV, derive_key, seal, secret, x25519

# ---- BLAKE3 derive_key with more than 32 bytes of output, input of one block ----
M32 = 0xFFFFFFFF


def compress_wide(cv, block, counter, flags):
    """The compression function with a counter and all 16 words of output."""
    v = list(cv) + IV[:4] + [counter & M32, counter >> 32, len(block), flags]
    m = list(struct.unpack("<16I", block.ljust(64, b"\0")))

    def g(a, b, c, d, x, y):
        v[a] = (v[a] + v[b] + x) & M32
        v[d] = circuits.rotr(v[d] ^ v[a], 16)
        v[c] = (v[c] + v[d]) & M32
        v[b] = circuits.rotr(v[b] ^ v[c], 12)
        v[a] = (v[a] + v[b] + y) & M32
        v[d] = circuits.rotr(v[d] ^ v[a], 8)
        v[c] = (v[c] + v[d]) & M32
        v[b] = circuits.rotr(v[b] ^ v[c], 7)

    for _ in range(7):
        for i in range(4):
            g(i, 4 + i, 8 + i, 12 + i, m[2 * i], m[2 * i + 1])
        for i in range(4):
            g(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4, m[8 + 2 * i], m[9 + 2 * i])
        m = [m[i] for i in circuits.ORDER]
    return struct.pack("<16I", *([v[i] ^ v[i + 8] for i in range(8)] + [v[i + 8] ^ cv[i] for i in range(8)]))


def derive_long(context, material, length):
    assert len(material) <= 64
    key = struct.unpack("<8I", circuits.blake3_chunk(IV, context.encode(), 32))
    blocks = (compress_wide(key, material, i, 64 | 1 | 2 | 8) for i in range(-(-length // 64)))
    return b"".join(blocks)[:length]


# ---- Ed25519 (RFC 8032 section 5.1) ----
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def point_add(a, b):
    (x1, y1), (x2, y2) = a, b
    t = D * x1 * x2 * y1 * y2 % P
    return (
        (x1 * y2 + x2 * y1) * pow(1 + t, P - 2, P) % P,
        (y1 * y2 + x1 * x2) * pow(1 - t, P - 2, P) % P,
    )


def point_mul(n, point):
    out = (0, 1)
    while n:
        if n & 1:
            out = point_add(out, point)
        point, n = point_add(point, point), n >> 1
    return out


def base_point():
    y = 4 * pow(5, P - 2, P) % P
    xx = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(xx, (P + 3) // 8, P)
    if (x * x - xx) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    return (P - x if x & 1 else x, y)


def point_bytes(point):
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def ed25519_expand(seed):
    h = hashlib.sha512(seed).digest()
    a = int.from_bytes(h[:32], "little") & ~7 & ~(128 << 248) | (64 << 248)
    return a, h[32:]


def ed25519_public(seed):
    return point_bytes(point_mul(ed25519_expand(seed)[0], base_point()))


def ed25519_sign(seed, message):
    a, prefix = ed25519_expand(seed)
    public = ed25519_public(seed)
    r = int.from_bytes(hashlib.sha512(prefix + message).digest(), "little") % L
    big_r = point_bytes(point_mul(r, base_point()))
    k = int.from_bytes(hashlib.sha512(big_r + public + message).digest(), "little") % L
    return big_r + ((r + k * a) % L).to_bytes(32, "little")


# ---- section 3: networks, keys of a node, descriptors ----
def network_hash(name):
    return derive_key("warren proto: network v1", name.encode())


class Node:
    def __init__(self, seed):
        self.seed = seed
        self.identity = ed25519_public(seed)
        self.link_secret = derive_key("warren proto: link key v1", seed)
        self.onion_secret = derive_key("warren proto: onion key v1", seed)
        self.link_key = x25519(self.link_secret, BASE)
        self.onion_key = x25519(self.onion_secret, BASE)


def descriptor(node, network, services, published, addresses):
    out = b"\1" + node.identity + node.link_key + node.onion_key
    out += struct.pack(">BQB", services, published, len(addresses))
    for host, port in addresses:
        ip = ipaddress.ip_address(host)
        out += bytes([ip.version]) + ip.packed + struct.pack(">H", port)
    message = derive_key("warren proto: descriptor v1", network_hash(network) + out)
    return out + ed25519_sign(node.seed, message)


# ---- section 4: the handshake ----
class Symmetric:
    def __init__(self, prologue, responder):
        self.h = self.ck = b"Noise_XK_25519_ChaChaPoly_SHA256"
        self.mix(prologue)
        self.mix(responder)

    def mix(self, data):
        self.h = hashlib.sha256(self.h + data).digest()

    def hkdf(self, data):
        temp = hmac.digest(self.ck, data, "sha256")
        first = hmac.digest(temp, b"\1", "sha256")
        return first, hmac.digest(temp, first + b"\2", "sha256")

    def mix_key(self, shared):
        self.ck, self.k = self.hkdf(shared)
        self.n = 0

    def seal(self, plaintext):
        out = seal(self.k, self.n, self.h, plaintext)
        self.n += 1
        self.mix(out)
        return out


def handshake(network, initiator, responder, hour, suites, nonces, ephemerals, paddings):
    net = network_hash(network)
    noise = Symmetric(b"warren link handshake 1" + net + responder.identity, responder.link_key)
    publics = [x25519(secret, BASE) for secret in ephemerals]

    def masked(number):
        material = responder.link_key + responder.identity + net + bytes([number]) + nonces[number - 1]
        # 129 bytes: more than one block, but 32 bytes of output are enough.
        mask = derive_key("warren proto: link handshake mask v1", material)
        return nonces[number - 1] + bytes(a ^ b for a, b in zip(publics[number - 1], mask))

    def field(number):
        length, seed = paddings[number - 1]
        return struct.pack(">H", length) + seed

    def filler(number):
        length, seed = paddings[number - 1]
        return derive_long("warren proto: link handshake padding v1", seed, length)

    noise.mix(publics[0])
    noise.mix_key(x25519(ephemerals[0], responder.link_key))
    one = masked(1) + noise.seal(struct.pack(">BBBI", 1, 1, suites[0], hour) + field(1)) + filler(1)
    noise.mix(publics[1])
    noise.mix_key(x25519(ephemerals[1], publics[0]))
    two = masked(2) + noise.seal(bytes([1, suites[1]]) + field(2)) + filler(2)
    three = noise.seal(initiator.link_key)
    noise.mix_key(x25519(initiator.link_secret, publics[1]))
    three += noise.seal(field(3)) + filler(3)
    to_responder, to_initiator = noise.hkdf(b"")
    return one, two, three, noise.h, to_responder, to_initiator


# ---- section 5.1: records ----
# AES-256 (FIPS 197) and GCM (NIST SP 800-38D), for suite 2.
def times_x(byte):
    return (byte << 1) ^ (0x11B if byte & 0x80 else 0)


def s_box():
    powers = [1]
    for _ in range(254):
        powers.append(powers[-1] ^ times_x(powers[-1]))  # of x + 1, which generates the field
    box = [0x63] * 256
    for i, byte in enumerate(powers):
        inverse = powers[-i % 255]
        doubled = inverse << 8 | inverse
        box[byte] ^= inverse ^ doubled >> 7 & 0xFF ^ doubled >> 6 & 0xFF ^ doubled >> 5 & 0xFF ^ doubled >> 4 & 0xFF
    return box


S_BOX = s_box()


def aes_schedule(key):
    words, constant = [list(key[i : i + 4]) for i in range(0, 32, 4)], 1
    for i in range(8, 60):
        word = words[-1]
        if i % 8 == 0:
            word = [S_BOX[b] for b in word[1:] + word[:1]]
            word[0] ^= constant
            constant = times_x(constant)
        elif i % 8 == 4:
            word = [S_BOX[b] for b in word]
        words.append([a ^ b for a, b in zip(words[i - 8], word)])
    return [sum(words[i : i + 4], []) for i in range(0, 60, 4)]


def aes(schedule, block):
    state = [a ^ b for a, b in zip(block, schedule[0])]
    for number, round_key in enumerate(schedule[1:], 1):
        state = [S_BOX[state[(i + 4 * (i % 4)) % 16]] for i in range(16)]
        if number < 14:
            columns = [state[i : i + 4] for i in range(0, 16, 4)]
            state = [
                times_x(c[i]) ^ times_x(c[(i + 1) % 4]) ^ c[(i + 1) % 4] ^ c[(i + 2) % 4] ^ c[(i + 3) % 4]
                for c in columns
                for i in range(4)
            ]
        state = [a ^ b for a, b in zip(state, round_key)]
    return bytes(state)


def gf128(x, y):
    z = 0
    for i in range(127, -1, -1):
        z ^= y if x >> i & 1 else 0
        y = y >> 1 ^ (0xE1 << 120 if y & 1 else 0)
    return z


def seal_gcm(key, counter, aad, plaintext):
    schedule, nonce = aes_schedule(key), b"\0" * 4 + struct.pack(">Q", counter)
    blocks = range(-(-len(plaintext) // 16))
    stream = b"".join(aes(schedule, nonce + struct.pack(">I", 2 + i)) for i in blocks)
    ciphertext = bytes(a ^ b for a, b in zip(plaintext, stream))
    h, tag = int.from_bytes(aes(schedule, bytes(16)), "big"), 0
    text = circuits.pad16(aad) + circuits.pad16(ciphertext) + struct.pack(">QQ", 8 * len(aad), 8 * len(ciphertext))
    for i in range(0, len(text), 16):
        tag = gf128(tag ^ int.from_bytes(text[i : i + 16], "big"), h)
    tag ^= int.from_bytes(aes(schedule, nonce + struct.pack(">I", 1)), "big")
    return ciphertext + tag.to_bytes(16, "big")


# FIPS 197 appendix C.3; "The Galois/Counter Mode of Operation", test case 14.
assert aes(aes_schedule(bytes(range(32))), bytes(17 * i for i in range(16))).hex() == "8ea2b7ca516745bfeafc49904b496089"
assert seal_gcm(bytes(32), 0, b"", bytes(16)).hex() == "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"


def record(suite, key, number, used):
    seal = {1: circuits.seal, 2: seal_gcm}[suite]
    for _ in range(number >> 16):
        key = seal(key, 2**64 - 1, b"", b"\0" * 32)[:32]
    return seal(key, number, b"", used.ljust(4078, b"\0") + struct.pack(">H", len(used)))


# ---- sections 5.2, 6.4 and 6.5: frames and messages ----
def frame(kind, body):
    return bytes([kind]) + len(body).to_bytes(3, "big") + body


def message(command, data, size):
    return (bytes([command]) + struct.pack(">H", len(data)) + data).ljust(size, b"\0")


def show(kind, **values):
    print(f"\n[{kind}]")
    for name, value in values.items():
        print(f"{name} = {value.hex() if isinstance(value, bytes) else value}")


def main():
    print("# Made by links.py. Sections 3.1 and 3.2, 4, 5.1, 5.2, 6.4 and 6.5.")
    nodes = [Node(secret(f"node {i}")) for i in range(3)]
    addresses = [("192.0.2.1", 9440), ("2001:db8::1", 1), ("127.0.0.1", 65535), ("::1", 443)]
    descriptors = []
    for i, node in enumerate(nodes):
        own = addresses[: 2 * i]
        signed = descriptor(node, "main", 7 - i, 1_800_000_000 + i, own)
        descriptors.append(signed)
        show(
            "descriptor",
            seed=node.seed,
            identity=node.identity,
            link_key=node.link_key,
            onion_key=node.onion_key,
            network="main",
            services=7 - i,
            published=1_800_000_000 + i,
            addresses=" ".join(str((f"[{h}]" if ":" in h else h) + f":{p}") for h, p in own),
            bytes=signed,
        )
    for i, network in enumerate(("main", "demo-1")):
        nonces = [secret(f"nonce {i} {j}") for j in (1, 2)]
        ephemerals = [secret(f"ephemeral {i} {j}") for j in (1, 2)]
        paddings = [(length, secret(f"padding {i} {length}")) for length in ((0, 1, 511), (100, 64, 65))[i]]
        hour = 500_000 + i
        suites = ((2, 1), (2, 2))[i]
        one, two, three, h, a, b = handshake(network, nodes[i], nodes[2], hour, suites, nonces, ephemerals, paddings)
        show(
            "handshake",
            network=network,
            initiator_seed=nodes[i].seed,
            responder_seed=nodes[2].seed,
            hour=hour,
            suite_offered=suites[0],
            suite=suites[1],
            nonce_1=nonces[0],
            nonce_2=nonces[1],
            ephemeral_secret_1=ephemerals[0],
            ephemeral_secret_2=ephemerals[1],
            **{f"padding_{j + 1}": length for j, (length, _) in enumerate(paddings)},
            **{f"padding_seed_{j + 1}": seed for j, (_, seed) in enumerate(paddings)},
            message_1=one,
            message_2=two,
            message_3=three,
            hash=h,
            key_to_responder=a,
            key_to_initiator=b,
        )
    key = secret("records")
    records = ((0, b""), (1, b"contents"), (65535, b"last"), (65536, bytes(range(251)) * 16 + bytes(62)))
    for suite, (number, used) in ((suite, each) for suite in (1, 2) for each in records):
        sealed = record(suite, key, number, used)
        assert len(sealed) == 4096
        digest = hashlib.sha256(sealed).digest()
        show("record", suite=suite, key=key, number=number, used=used, sha256=digest, end=sealed[-32:])
    circuit, request = struct.pack(">I", 0x01020304), struct.pack(">Q", 0x05060708090A0B0C)
    keys = [secret(f"key {i}") for i in range(2)]
    frames = {
        "hello": frame(0x01, descriptors[1]),
        "ping": frame(0x02, struct.pack(">Q", 1)),
        "pong": frame(0x03, struct.pack(">Q", 2**64 - 1)),
        "ask descriptors": frame(0x04, struct.pack(">Q", 77)),
        "descriptors": frame(0x05, b"\3" + b"".join(descriptors)),
        "create": frame(0x10, circuit + b"\4" + keys[0]),
        "created": frame(0x11, circuit + keys[0] + keys[1]),
        "destroy": frame(0x12, circuit),
        "packet": frame(0x13, circuit + bytes(range(256)) * 4),
        "request": frame(0x20, request + b"\1" + keys[0] + b"\x12\1\3" + struct.pack(">Q", 1 << 50)),
        "not found": frame(0x22, request + b"\2"),
        "refused": frame(0x23, request + b"\2"),
        "stored": frame(0x25, request + b"\5"),
        "replicated": frame(0x28, request + b"\1"),
        "census": frame(0x29, request + b"\2\1" + keys[0] + b"\0" + keys[1]),
        "holdings": frame(0x2A, request + b"\3\0\1\2"),
        "handed over": frame(0x2C, request + b"\1"),
        "await": frame(0x2D, request + b"\1" + keys[0] + b"\x12\1\3" + struct.pack(">Q", 1 << 50)),
    }
    for name, encoded in frames.items():
        show("frame", name=name, bytes=encoded)
    # Content blocks and block packets are long: the first bytes and a hash stand for them. `head` ends where the block starts.
    block = bytes(range(256)) * 128
    tail = {
        "block packet": frame(0x14, circuit + block + bytes(256)),
        "found": frame(0x21, request + b"\1\0" + block),
        "insert": frame(0x24, request + b"\x11\0" + block),
        "collision": frame(0x26, request + b"\0" + block),
        "replicate": frame(0x27, request + b"\0" + block),
        "hand over": frame(0x2B, request + b"\0" + block),
        "arrived": frame(0x2E, b"\0" + block),
    }
    for name, encoded in tail.items():
        show("long frame", name=name, head=encoded[: encoded.index(block)], sha256=hashlib.sha256(encoded).digest())
    number = circuit
    messages = {
        "drop": message(0, b"", 1024),
        "extend": message(1, b"\2" + keys[0] + descriptors[2], 1024),
        "extended": message(2, keys[0] + keys[1], 1024),
        "fetch": message(3, number + b"\3\0" + keys[0], 1024),
        "insert": message(4, number + b"\0" + block, 33024),
        "found": message(5, number + b"\0" + block, 33024),
        "not found": message(6, number, 1024),
        "stored": message(7, number + b"\5", 1024),
        "collision": message(8, number + b"\0" + block, 33024),
        "busy": message(9, number, 1024),
        "failed": message(10, number, 1024),
        "await": message(11, number + b"\3\0" + keys[0], 1024),
        "waiting": message(12, number, 1024),
    }
    for name, encoded in messages.items():
        show("message", name=name, length=len(encoded), start=encoded[:8], sha256=hashlib.sha256(encoded).digest())


if __name__ == "__main__":
    # The primitives against their own specifications: RFC 8032 section 7.1 test 2; BLAKE3's test vector of length 0.
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    assert ed25519_public(seed).hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    assert ed25519_sign(seed, b"\x72").hex().startswith("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da")
    assert derive_long("any context", b"material", 32) == derive_key("any context", b"material")
    main()
