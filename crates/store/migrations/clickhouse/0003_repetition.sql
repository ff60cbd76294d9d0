-- Requests to models repeat all that was said before, and so do their words. What is compressed together is large
-- enough to have many of them, and the compressor looks back over all of it: 16 MiB. Whoever reads one body
-- decompresses as much.
ALTER TABLE flows MODIFY COLUMN request_body CODEC(ZSTD(3, 24));

ALTER TABLE flows MODIFY COLUMN request_body MODIFY SETTING min_compress_block_size = 16777216, max_compress_block_size = 16777216;

ALTER TABLE flows MODIFY COLUMN words CODEC(ZSTD(3, 24));

ALTER TABLE flows MODIFY COLUMN words MODIFY SETTING min_compress_block_size = 16777216, max_compress_block_size = 16777216;
