#!/usr/bin/env python3
"""Reference for docs/keys.md, written from that page and the papers alone: slow, short, standard library only.

    python3 reference.py > reference.json

gives the vectors that the tests of `warren-keys` compare with. Reed-Solomon parity is not computed here; the vectors
of splitfile.json pin it. NOT FOR USE: nothing here runs in constant time.
"""
import hashlib
import json
import struct

# --- BLAKE3 (specification, section 2) -------------------------------------------------------------------------------
IV = [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19]
PERMUTATION = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8]
CHUNK_START, CHUNK_END, PARENT, ROOT, KEYED, CONTEXT, MATERIAL = 1, 2, 4, 8, 16, 32, 64
M32 = 0xFFFFFFFF


def rotr(x, n):
    return (x >> n | x << (32 - n)) & M32


def compress(cv, block, counter, length, flags):
    m = list(struct.unpack("<16I", block))
    v = cv[:8] + IV[:4] + [counter & M32, counter >> 32, length, flags]
    for _ in range(7):
        for i, (a, b, c, d) in enumerate([(0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
                                          (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)]):
            for x, r1, r2 in ((m[2 * i], 16, 12), (m[2 * i + 1], 8, 7)):
                v[a] = (v[a] + v[b] + x) & M32
                v[d] = rotr(v[d] ^ v[a], r1)
                v[c] = (v[c] + v[d]) & M32
                v[b] = rotr(v[b] ^ v[c], r2)
        m = [m[i] for i in PERMUTATION]
    return [v[i] ^ v[i + 8] for i in range(8)] + [v[i + 8] ^ cv[i] for i in range(8)]


def node(key, data, flags, first_chunk):
    """The inputs of the last compression over `data`."""
    if len(data) <= 1024:
        blocks = [data[i:i + 64] for i in range(0, len(data), 64)] or [b""]
        cv = key
        for i, block in enumerate(blocks):
            f = flags | (CHUNK_START if i == 0 else 0) | (CHUNK_END if i == len(blocks) - 1 else 0)
            args = (cv, block.ljust(64, b"\0"), first_chunk, len(block), f)
            if i < len(blocks) - 1:
                cv = compress(*args)[:8]
        return args
    left = 1024
    while left * 2 < len(data):
        left *= 2
    cvs = [compress(*node(key, data[:left], flags, first_chunk))[:8],
           compress(*node(key, data[left:], flags, first_chunk + left // 1024))[:8]]
    return (key, struct.pack("<16I", *cvs[0], *cvs[1]), 0, 64, flags | PARENT)


def blake3_core(key, data, flags, size):
    cv, block, counter, length, f = node(key, data, flags, 0)
    out = b""
    while len(out) < size:
        # The root's output counter replaces the chunk counter.
        out += struct.pack("<16I", *compress(cv, block, len(out) // 64, length, f | ROOT))
    return out[:size]


def words(key):
    return list(struct.unpack("<8I", key))


def blake3(data, size=32):
    return blake3_core(IV, data, 0, size)


def keyed_hash(key, data):
    return blake3_core(words(key), data, KEYED, 32)


def derive(label, *parts, size=32):
    context = blake3_core(IV, ("warren keys: " + label + " v1").encode(), CONTEXT, 32)
    return blake3_core(words(context), b"".join(parts), MATERIAL, size)


# --- ChaCha20 (RFC 8439), zero nonce, counter from 0 -----------------------------------------------------------------
def chacha20(key, data):
    out = bytearray()
    for counter in range((len(data) + 63) // 64):
        start = list(struct.unpack("<4I", b"expand 32-byte k")) + words(key) + [counter, 0, 0, 0]
        x = start[:]
        for _ in range(10):
            for a, b, c, d in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
                               (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
                for p, q, r, n in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                    x[p] = (x[p] + x[q]) & M32
                    x[r] = rotr(x[r] ^ x[p], 32 - n)
        stream = struct.pack("<16I", *((a + b) & M32 for a, b in zip(x, start)))
        out += bytes(a ^ b for a, b in zip(data[64 * counter:], stream))
    return bytes(out)


# --- Ed25519 (RFC 8032), affine points -------------------------------------------------------------------------------
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
BASE_Y = 4 * pow(5, -1, P) % P


def recover_x(y, sign):
    x2 = (y * y - 1) * pow(D * y * y + 1, -1, P)
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    assert (x * x - x2) % P == 0
    return P - x if x & 1 != sign else x


def add(a, b):
    (x1, y1), (x2, y2) = a, b
    t = D * x1 * x2 * y1 * y2 % P
    return ((x1 * y2 + x2 * y1) * pow(1 + t, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - t, -1, P) % P)


def times(n, point):
    total = (0, 1)
    while n:
        if n & 1:
            total = add(total, point)
        point, n = add(point, point), n >> 1
    return total


BASE = (recover_x(BASE_Y, 0), BASE_Y)


def encode_point(point):
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def expand(seed):
    h = hashlib.sha512(seed).digest()
    return int.from_bytes(h[:32], "little") & (1 << 254) - 8 | 1 << 254, h[32:]


def sign(scalar, prefix, public, message):
    r = int.from_bytes(hashlib.sha512(prefix + message).digest(), "little") % L
    big_r = encode_point(times(r, BASE))
    k = int.from_bytes(hashlib.sha512(big_r + public + message).digest(), "little") % L
    return big_r + ((r + k * scalar) % L).to_bytes(32, "little")


# --- docs/keys.md ----------------------------------------------------------------------------------------------------
BLOCK, PAYLOAD = 32768, 32640
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789~-"


def base64(data):  # §3.2
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 6)
    return "".join(ALPHABET[int(bits[i:i + 6], 2)] for i in range(0, len(bits), 6))


def content_block(plain, key):  # §4.1
    block = chacha20(key, plain.ljust(BLOCK, b"\0"))
    return block, blake3(block)


def signed_block(scalar, prefix, public, secret, payload):  # §4.2
    payload = payload.ljust(PAYLOAD, b"\0")
    siv = keyed_hash(derive("document siv key", secret), payload)
    ciphertext = chacha20(derive("document cipher key", secret, siv), payload)
    signature = sign(scalar, prefix, public, derive("signed block message", siv, ciphertext))
    return public + signature + siv + ciphertext, derive("signed block routing", public)


def document(seed, crypto, name):  # §4.3: blinded scalar, prefix, public key; secret
    scalar, prefix = expand(seed)
    public = encode_point(times(scalar, BASE))
    secret = derive("document secret", public, crypto, name)
    factor = int.from_bytes(derive("document blinding", secret, size=64), "little") % L
    scalar = factor * scalar % L
    return scalar, derive("document nonce secret", prefix, secret), encode_point(times(scalar, BASE)), secret


def copy(kind, number, *parts):  # §5.2: keys of a copy
    parts = (bytes([number]), *parts)
    seed, secret = derive(kind + " root copy seed", *parts), derive(kind + " root copy secret", *parts)
    scalar, prefix = expand(seed)
    return scalar, prefix, encode_point(times(scalar, BASE)), secret


def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def inline_root(plain, mime):  # §5.1
    body = b"\1" + (b"\1" + varint(len(mime)) + mime if mime else b"\0") + varint(len(plain)) + blake3(plain)
    body += b"\0" + b"\0" + varint(len(plain)) + plain
    return struct.pack(">H", len(body)) + body


def file_key(stream_hash, length):  # §6.5
    return derive("file key reproducible", b"\1", struct.pack(">Q", length), stream_hash)


def block_key(key, level, segment, index):  # §6.5
    return keyed_hash(key, struct.pack(">BQH", level, segment, index))


def chk(root, seed=None):
    crypto = derive("chk key unpredictable", seed, root) if seed else derive("chk key reproducible", root)
    block, routing = content_block(root, crypto)
    copies = [signed_block(*copy("chk", n, routing, crypto), root) for n in (1, 2)]
    uri = f"CHK@{base64(routing)},{base64(crypto)},{base64(bytes([0, 16, 2, 255, 255]))}"
    return uri, [(block, routing), *copies]


def ssk(seed, crypto, name, root):
    signer = document(seed, crypto, name)
    block, routing = signed_block(*signer, root)
    copies = [signed_block(*copy("document", n, signer[3]), block[32:96] + root) for n in (1, 2)]
    public = encode_point(times(expand(seed)[0], BASE))
    return public, signer, [(block, routing), *copies]


def described(blocks):
    return [{"routing_key": routing.hex(), "block_blake3": blake3(block).hex()} for block, routing in blocks]


def main():
    assert blake3(b"").hex().startswith("af1349b9f5f9a1a6a0404dea36dcc949")
    one, two = bytes(range(32)), bytes(range(32, 64))
    root = inline_root(b"Hello, Warren!\n", b"text/plain")
    vectors = {"root": root.hex(), "chk": [], "ssk": [], "splitfile": []}
    for seed in (None, one):
        uri, blocks = chk(root, seed)
        vectors["chk"].append({"seed": seed and seed.hex(), "uri": uri, "blocks": described(blocks)})
    words_ = "a few words"
    ksk = (derive("ksk signing seed", words_.encode()), derive("ksk crypto key", words_.encode()))
    for seed, crypto, name in ((one, two, "document"), (one, two, "site-7"), (*ksk, words_)):
        public, signer, blocks = ssk(seed, crypto, name.encode(), root)
        extra = [base64(bytes([1, n, 2, 0, 1])) for n in (0, 1)]
        vectors["ssk"].append({
            "name": name,
            "private": f"SSK@{base64(seed)},{base64(crypto)},{extra[1]}/",
            "public": f"SSK@{base64(public)},{base64(crypto)},{extra[0]}/",
            "blinded_public_key": signer[2].hex(),
            "blocks": described(blocks),
        })
    vectors["ksk"] = {"uri": "KSK@a%20few%20words", "private": vectors["ssk"][2]["private"]}
    public = encode_point(times(expand(one)[0], BASE))
    vectors["node"] = {"seed": one.hex(), "id": base64(public), "location": derive("node location", public)[:8].hex()}
    for length in (32001, 32768, 32769, 100_000):
        stream = blake3(b"stream", length)
        key = file_key(blake3(stream), length)
        routing = [content_block(stream[i:i + BLOCK], block_key(key, 0, 0, i // BLOCK))[1].hex()
                   for i in range(0, length, BLOCK)]
        vectors["splitfile"].append({"stream_len": length, "stream_blake3": blake3(stream).hex(), "file_key": key.hex(),
                                     "data_keys": routing})
    print(json.dumps(vectors, indent=1))


if __name__ == "__main__":
    main()
