#!/usr/bin/env python3
"""Makes circuits.txt, the test vectors of protocol section 6, from the specification alone.

Written apart from the Rust code: X25519 from RFC 7748 section 5, ChaCha20-Poly1305 from RFC 8439, BLAKE3 from its paper (one
chunk is enough here). No library. Slow, not constant time, for vectors only. Run: python3 circuits.py > circuits.txt
"""
import hashlib
import struct

# ---- X25519 (RFC 7748) ----
P = 2**255 - 19


def x25519(scalar, point):
    k = int.from_bytes(scalar, "little") & ~7 & ~(128 << 248) | (64 << 248)
    u = int.from_bytes(point, "little") & (2**255 - 1)
    x1, x2, z2, x3, z3, swap = u, 1, 0, u, 1, 0
    for t in reversed(range(255)):
        bit = k >> t & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb = a * a, b * b
        e, da, cb = aa - bb, d * a, c * b
        x3, z3 = (da + cb) ** 2 % P, x1 * (da - cb) ** 2 % P
        x2, z2 = aa * bb % P, e * (aa + 121665 * e) % P
    if swap:
        x2, x3, z2, z3 = x3, x2, z3, z2
    return (x2 * pow(z2, P - 2, P) % P).to_bytes(32, "little")


BASE = (9).to_bytes(32, "little")

# ---- BLAKE3, inputs of up to one chunk ----
IV = [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19]
ORDER = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8]
M32 = 0xFFFFFFFF


def rotr(x, n):
    return (x >> n | x << (32 - n)) & M32


def compress(cv, words, length, flags):
    v = list(cv) + IV[:4] + [0, 0, length, flags]
    m = list(words)

    def g(a, b, c, d, x, y):
        v[a] = (v[a] + v[b] + x) & M32
        v[d] = rotr(v[d] ^ v[a], 16)
        v[c] = (v[c] + v[d]) & M32
        v[b] = rotr(v[b] ^ v[c], 12)
        v[a] = (v[a] + v[b] + y) & M32
        v[d] = rotr(v[d] ^ v[a], 8)
        v[c] = (v[c] + v[d]) & M32
        v[b] = rotr(v[b] ^ v[c], 7)

    for _ in range(7):
        for i in range(4):
            g(i, 4 + i, 8 + i, 12 + i, m[2 * i], m[2 * i + 1])
        for i in range(4):
            g(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4, m[8 + 2 * i], m[9 + 2 * i])
        m = [m[i] for i in ORDER]
    return [v[i] ^ v[i + 8] for i in range(8)]


def blake3_chunk(key, data, flags):
    assert len(data) <= 1024
    blocks = [data[i : i + 64] for i in range(0, len(data), 64)] or [b""]
    cv = key
    for i, block in enumerate(blocks):
        first, last = i == 0, i == len(blocks) - 1
        words = struct.unpack("<16I", block.ljust(64, b"\0"))
        cv = compress(cv, words, len(block), flags | (1 if first else 0) | (2 | 8 if last else 0))
    return struct.pack("<8I", *cv)


def derive_key(context, material):
    key = struct.unpack("<8I", blake3_chunk(IV, context.encode(), 32))
    return blake3_chunk(key, material, 64)


# ---- ChaCha20-Poly1305 (RFC 8439) ----
def chacha20_block(key, counter, nonce):
    start = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574]
    start += list(struct.unpack("<8I", key)) + [counter] + list(struct.unpack("<3I", nonce))
    s = start[:]

    def quarter(a, b, c, d):
        for x, y, z, n in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            s[x] = (s[x] + s[y]) & M32
            s[z] = rotr(s[z] ^ s[x], 32 - n)

    for _ in range(10):
        for i in range(4):
            quarter(i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return struct.pack("<16I", *((a + b) & M32 for a, b in zip(s, start)))


def chacha20(key, counter, nonce, data):
    out = bytearray()
    for i in range(0, len(data), 64):
        stream = chacha20_block(key, counter + i // 64, nonce)
        out += bytes(a ^ b for a, b in zip(data[i : i + 64], stream))
    return bytes(out)


def pad16(data):
    return data + b"\0" * (-len(data) % 16)


def seal(key, counter, aad, plaintext):
    nonce = b"\0" * 4 + struct.pack("<Q", counter)
    ciphertext = chacha20(key, 1, nonce, plaintext)
    one_time = chacha20_block(key, 0, nonce)
    r = int.from_bytes(one_time[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    s = int.from_bytes(one_time[16:32], "little")
    text = pad16(aad) + pad16(ciphertext) + struct.pack("<QQ", len(aad), len(ciphertext))
    tag = 0
    for i in range(0, len(text), 16):
        tag = (tag + int.from_bytes(text[i : i + 16] + b"\1", "little")) * r % (2**130 - 5)
    return ciphertext + ((tag + s) % 2**128).to_bytes(16, "little")


# ---- protocol section 6.2 ----
def handshake(relay, onion_secret, client_secret, server_secret, layer):
    onion_key, client, server = (x25519(s, BASE) for s in (onion_secret, client_secret, server_secret))
    both = x25519(client_secret, server) + x25519(client_secret, onion_key)
    assert both == x25519(server_secret, client) + x25519(onion_secret, client)
    material = both + relay + onion_key + client + server + bytes([layer])
    keys = [derive_key(f"warren proto: circuit {what} v1", material) for what in ("forward key", "backward key", "relay proof")]
    return onion_key, client, server, keys


# ---- protocol section 6.3 ----
BODY = {"control": 1024, "block": 32768 + 256}


def add_layer(key, counter, size, direction, layer, body):
    aad = bytes([0 if size == "control" else 1, direction])
    covered = BODY[size] - 16 * layer
    assert not any(body[covered - 16 :])
    return seal(key, counter, aad, body[: covered - 16]) + body[covered:]


def secret(name):
    return hashlib.sha256(name.encode()).digest()


def main():
    print("# Made by circuits.py. Section 6.2: one handshake a stanza. Section 6.3: bodies under all layers.")
    # Ed25519 public keys of RFC 8032 section 7.1, tests 1 to 3.
    relays = [
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
    ]
    hops = []
    for layer, relay in enumerate(relays):
        secrets = [secret(f"{what} {layer}") for what in ("onion", "client", "server")]
        onion_key, client, server, (forward, backward, auth) = handshake(bytes.fromhex(relay), *secrets, layer)
        hops.append((forward, backward))
        print("\n[ntor]")
        print(f"layer = {layer}\nrelay = {relay}")
        for name, value in (
            ("onion_secret", secrets[0]),
            ("client_secret", secrets[1]),
            ("server_secret", secrets[2]),
            ("onion_key", onion_key),
            ("client", client),
            ("server", server),
            ("auth", auth),
            ("forward", forward),
            ("backward", backward),
        ):
            print(f"{name} = {value.hex()}")
    counter = 0
    for size in ("control", "block", "control"):
        payload = bytes((i * 7 + counter) % 251 for i in range(BODY[size] - 80))
        out = back = payload.ljust(BODY[size], b"\0")
        for layer in (2, 1, 0):
            out = add_layer(hops[layer][0], counter, size, 0, layer, out)
            back = add_layer(hops[layer][1], counter, size, 1, layer, back)
        print(f"\n[onion]\nsize = {size}\npacket = {counter}")
        print(f"forward_sha256 = {hashlib.sha256(out).hexdigest()}")
        print(f"forward_end = {out[-64:].hex()}")
        print(f"backward_sha256 = {hashlib.sha256(back).hexdigest()}")
        print(f"backward_end = {back[-64:].hex()}")
        counter += 1


if __name__ == "__main__":
    # The primitives against their own specifications.
    assert x25519(bytes.fromhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"),
                  bytes.fromhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")).hex() == \
        "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"
    assert blake3_chunk(IV, b"", 0).hex() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert chacha20_block(bytes(range(32)), 1, bytes.fromhex("000000090000004a00000000")).hex()[:32] == \
        "10f1e7e4d13b5915500fdd1fa32071c4"
    main()
