import re, sys
TABLE = list(range(256))
for _ in range(8):
    TABLE = [entry >> 1 ^ (0x82F63B78 if entry & 1 else 0) for entry in TABLE]
def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF
def verify(data, compacted):
    sequences, end = [], 0
    while end < len(data) and data[end]:
        fields = re.fullmatch(rb"([0-9a-f]{8}) ([0-9a-f]{8}) ([0-9a-f]{16}) ([0-9a-f]{4}) ", data[end:end + 40])
        checksum, length, sequence, _ = [int(field, 16) for field in fields.groups()] if fields else (0, 0, 0, 0)
        start, end = end, end + 40 + length + 1
        assert data[end - 1:end] == b"\n" and crc32c(data[start + 8:end - 1]) == checksum, f"byte {start}: damaged"
        sequences.append(sequence)
    assert sequences[:1] == [0] and len(set(sequences)) == len(sequences) and not any(data[end:]), f"byte {end}: no end"
    assert compacted or all(b == a + 1 for a, b in zip(sequences[1:], sequences[2:])), "a record is missing"
verify(open(sys.argv[1], "rb").read(), compacted="compacted" in sys.argv[2:])
