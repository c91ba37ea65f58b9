/* 3x3 convolutions of whole rows in single precision, with a fifth of the multiplications.
 *
 * Winograd's F(6x6, 3x3): a tile of 8x8 samples and the kernels are transformed, multiplied point by
 * point, and transformed back to 6x6 results: 64 products instead of 324. Over all channels and some
 * tiles each of the 64 points is a product of two matrices. Source: Lavin and Gray, "Fast Algorithms
 * for Convolutional Neural Networks", CVPR 2016; points 0, 1, -1, 2, -2, 1/2, -1/2 and infinity.
 *
 * A row is a pointer to pixels of `channels` numbers each: one of zeros, the `width` of the slice, and
 * as many of zeros as fill the last tile and one more. Channels are multiples of 32. Threads share the
 * work of a call: each calls with the same counter, which starts at 0, and takes what is next.
 *
 * Compiled for AVX2 with FMA and for AVX-512, whose vectors are twice as long.
 */
#include <immintrin.h>
#include <math.h>
#include <stdatomic.h>
#include <stddef.h>

#ifdef __AVX512F__
typedef __m512 vec;
#define LANES 16
#define ROWS 12 /* of a product in registers: 24 sums, 2 weights, 1 factor */
#define TILES 24 /* that are transformed together, a multiple of ROWS: with 128 channels 1.2 MB */
#define load _mm512_loadu_ps
#define store _mm512_storeu_ps
#define all _mm512_set1_ps
#define larger _mm512_max_ps
#define fma _mm512_fmadd_ps
#else
typedef __m256 vec;
#define LANES 8
#define ROWS 6 /* 12 sums, 2 weights, 1 factor */
#define TILES 12 /* 0.6 MB: caches are smaller, too */
#define load _mm256_loadu_ps
#define store _mm256_storeu_ps
#define all _mm256_set1_ps
#define larger _mm256_max_ps
#define fma _mm256_fmadd_ps
#endif

#define TILE 6 /* results a side */
#define SIDE 8 /* samples a side */
#define POINTS 64
#define PANEL (2 * LANES) /* kernels of a product in registers */
#define KERNELS 64 /* that are multiplied before they are transformed back; or all, if fewer */
#define PAD 16 /* numbers between points, which would else fall into the same lines of the cache */
#define inlined static inline __attribute__((always_inline))

/* Numbers of memory that a thread needs. */
long mrlift_winograd_scratch(int channels) {
    const long kernels = channels < KERNELS ? channels : KERNELS;
    return POINTS * (TILES * channels + PAD + TILES * kernels + PAD);
}

/* Kernels beside each other in the order of weights, see mrlift_winograd_kernels. */
int mrlift_winograd_panel(void) { return PANEL; }

/* Numbers between the points of kernels: 2^n would fall into the same lines of the cache. */
inlined long kernel_point(int channels) { return (long)channels * channels + PAD; }

/* Numbers of memory that kernels at their points take. */
long mrlift_winograd_kernels_size(int channels) { return POINTS * kernel_point(channels); }

/* G of F(6, 3): three taps at eight points. */
inlined void transform_taps(const vec *g, vec *m) {
    const vec outer = g[0] + g[2], fourth = g[0] + g[2] * all(4.0f), half = g[0] * all(4.0f) + g[2];
    m[0] = g[0];
    m[1] = (outer + g[1]) * all(-2.0f / 9);
    m[2] = (outer - g[1]) * all(-2.0f / 9);
    m[3] = (fourth + g[1] * all(2.0f)) * all(1.0f / 90);
    m[4] = (fourth - g[1] * all(2.0f)) * all(1.0f / 90);
    m[5] = (half + g[1] * all(2.0f)) * all(8.0f / 45);
    m[6] = (half - g[1] * all(2.0f)) * all(8.0f / 45);
    m[7] = g[2];
}

/* Kernels at their points: (points, kernels / PANEL, channels, PANEL), of `taps` (channels,
 * 9, kernels), or of those in reverse order. */
void mrlift_winograd_kernels(const float *taps, int channels, int reverse, float *points,
                             atomic_long *next) {
    const long point = kernel_point(channels);
    for (long panel; (panel = atomic_fetch_add(next, 1)) < channels / PANEL;)
        for (int at = 0; at < channels * PANEL; at += LANES) { /* whole lines of memory in a row */
            float *to = points + panel * channels * PANEL + at;
            const float *from = taps + (long)(at / PANEL) * 9 * channels + panel * PANEL + at % PANEL;
            vec half[SIDE][3], line[3], result[SIDE];
            for (int j = 0; j < 3; j++) {
                for (int i = 0; i < 3; i++) {
                    const int tap = i * 3 + j;
                    line[i] = load(from + (long)(reverse ? 8 - tap : tap) * channels);
                }
                transform_taps(line, result);
                for (int i = 0; i < SIDE; i++) half[i][j] = result[i];
            }
            for (int i = 0; i < SIDE; i++) {
                transform_taps(half[i], result);
                for (int j = 0; j < SIDE; j++) store(to + (i * SIDE + j) * point, result[j]);
            }
        }
}

/* Pixels that may be read behind the end of a row of sums. */
int mrlift_winograd_behind(void) { return ROWS; }

inlined void transform(const vec *d, vec *r) {
    vec even = d[2] + d[6] - d[4] * all(4.25f), odd = d[1] + d[5] - d[3] * all(4.25f);
    r[0] = d[0] - d[6] + (d[4] - d[2]) * all(5.25f);
    r[7] = d[7] - d[1] + (d[3] - d[5]) * all(5.25f);
    r[1] = even + odd;
    r[2] = even - odd;
    even = d[6] + d[2] * all(0.25f) - d[4] * all(1.25f);
    odd = d[1] * all(0.5f) - d[3] * all(2.5f) + d[5] * all(2.0f);
    r[3] = even + odd;
    r[4] = even - odd;
    even = d[6] + (d[2] - d[4] * all(1.25f)) * all(4.0f);
    odd = d[1] * all(2.0f) - d[3] * all(2.5f) + d[5] * all(0.5f);
    r[5] = even + odd;
    r[6] = even - odd;
}

inlined void transform_back(const vec *m, vec *o) {
    const vec s1 = m[1] + m[2], s2 = m[3] + m[4], s3 = m[5] + m[6];
    const vec d1 = m[1] - m[2], d2 = m[3] - m[4], d3 = m[5] - m[6];
    o[0] = m[0] + s1 + s2 + s3;
    o[1] = d1 + d2 * all(2.0f) + d3 * all(0.5f);
    o[2] = s1 + s2 * all(4.0f) + s3 * all(0.25f);
    o[3] = d1 + d2 * all(8.0f) + d3 * all(0.125f);
    o[4] = s1 + s2 * all(16.0f) + s3 * all(0.0625f);
    o[5] = m[7] + d1 + d2 * all(32.0f) + d3 * all(0.03125f);
}

/* A tile of all channels: `in` are its eight rows from its first column on, `out` its points, `point`
 * numbers apart. */
static void tile_in(const float *const *in, int channels, long point, float *out) {
    for (int c = 0; c < channels; c += LANES) {
        vec half[SIDE][SIDE], line[SIDE], result[SIDE];
        for (int j = 0; j < SIDE; j++) {
            for (int i = 0; i < SIDE; i++) line[i] = load(in[i] + (long)j * channels + c);
            transform(line, result);
            for (int i = 0; i < SIDE; i++) half[i][j] = result[i];
        }
        for (int i = 0; i < SIDE; i++) {
            transform(half[i], result);
            for (int j = 0; j < SIDE; j++) store(out + (i * SIDE + j) * point + c, result[j]);
        }
    }
}

/* out (ROWS, PANEL) = a (ROWS, depth) b (depth, PANEL); rows of a and out lie as far apart as said. */
inlined void product(const float *a, long apart, const float *b, int depth, float *out, long out_apart) {
    vec sums[ROWS][2];
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; r++) sums[r][0] = sums[r][1] = all(0.0f);
    for (int k = 0; k < depth; k++, b += PANEL) {
        const vec left = load(b), right = load(b + LANES);
#pragma GCC unroll 16
        for (int r = 0; r < ROWS; r++) {
            const vec factor = all(a[r * apart + k]);
            sums[r][0] = fma(factor, left, sums[r][0]);
            sums[r][1] = fma(factor, right, sums[r][1]);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; r++) {
        store(out + r * out_apart, sums[r][0]);
        store(out + r * out_apart + LANES, sums[r][1]);
    }
}

/* `some` tiles times some kernels at all points: `in` (tiles, channels), `weights` (kernels / PANEL,
 * channels, PANEL) and `out` (tiles, kernels) at each, that many numbers apart. */
static void products_of(const float *in, long in_point, const float *weights, long weight_point,
                        long some, int channels, int kernels, float *out, long out_point) {
    for (int p = 0; p < POINTS; p++, in += in_point, weights += weight_point, out += out_point)
        for (int c = 0; c < kernels; c += PANEL)
            for (long t = 0; t < some; t += ROWS)
                product(in + t * channels, channels, weights + (long)c * channels, channels,
                        out + t * kernels + c, kernels);
}

/* U_0 at one pixel, LANES channels from `c` on: the first convolution of the network. `slice` is the
 * sample above the pixel, rows of it `stride` apart; `weights` are (9, channels). */
inlined vec head_at(const float *slice, const float *weights, const float *bias, int channels,
                    long stride, int c) {
    vec v = load(bias + c);
    for (int tap = 0; tap < 9; tap++)
        v = fma(all(slice[(tap / 3) * stride + tap % 3 - 1]), load(weights + (long)tap * channels + c), v);
    return v;
}

/* out = relu(U_0). `slice` is the first sample, a zero, of the row above the first. */
void mrlift_winograd_head(const float *slice, const float *weights, const float *bias, int channels,
                          long stride, long width, long rows, float *const *out, atomic_long *next) {
    for (long r; (r = atomic_fetch_add(next, 1)) < rows;)
        for (long p = 1; p <= width; p++)
            for (int c = 0; c < channels; c += LANES) {
                const vec v = head_at(slice + r * stride + p, weights, bias, channels, stride, c);
                store(out[r] + p * channels + c, larger(all(0.0f), v));
            }
}

/* What is done with a tile of results; none becomes smaller than `least`. */
struct result {
    const float *bias;
    float least;
    float *const *out;
    const float *slice, *head_weights, *head_bias;
    long stride;
    float share;
    int first;
    float *const *sum;
};

/* `products` are those of one tile, kernels from `k` on, `some` of them; the tile begins at `row` and
 * `column` (the padding is column 0) and has so many rows and columns. */
static void tile_out(const float *products, long point, int k, int some, int channels, long row,
                     long column, int rows, int columns, const struct result *to) {
    for (int c = 0; c < some; c += LANES) {
        vec half[TILE][SIDE], line[SIDE], result[TILE];
        const vec bias = load(to->bias + k + c);
        for (int j = 0; j < SIDE; j++) {
            for (int i = 0; i < SIDE; i++) line[i] = load(products + (i * SIDE + j) * point + c);
            transform_back(line, result);
            for (int i = 0; i < TILE; i++) half[i][j] = result[i];
        }
        for (int i = 0; i < rows; i++) {
            transform_back(half[i], result);
            for (int j = 0; j < columns; j++) {
                vec v = result[j] + bias;
                const long at = (column + j) * channels + k + c;
                if (to->slice) {
                    const float *above = to->slice + (row + i) * to->stride + column + j;
                    v += head_at(above, to->head_weights, to->head_bias, channels, to->stride, k + c);
                    float *s = to->sum[row + i] + at;
                    const vec before = to->first ? all(0.0f) : load(s);
                    store(s, fma(all(to->share), v, before));
                }
                store(to->out[row + i] + at, larger(all(to->least), v)); /* NaN stays */
            }
        }
    }
}

/* out = relu(convolution) of `rows` rows. `in` are these, one more above and below, and six of zeros.
 * Rows of `out` and `sum` that are of no use may all be the same one.
 * `weights` are (points, kernels / PANEL, channels, PANEL), transformed.
 *
 * With `slice` it is the second convolution of a unit: U_0 is added, which gives U_i, and `sum` grows
 * by `share` U_i, or becomes that with `first`. U_0 is computed again from the slice: that is cheaper
 * than to keep as many rows of it as units lie between. */
void mrlift_winograd_convolve(const float *const *in, const float *weights, const float *bias,
                              int channels, long width, long rows, float *const *out,
                              const float *slice, long stride, const float *head_weights,
                              const float *head_bias, float share, int first, float *const *sum,
                              float *scratch, atomic_long *next) {
    const struct result to = {bias, 0.0f, out, slice, head_weights, head_bias, stride, share, first, sum};
    const long across = (width + TILE - 1) / TILE, down = (rows + TILE - 1) / TILE;
    const int kernels = channels < KERNELS ? channels : KERNELS;
    const long in_point = (long)TILES * channels + PAD, out_point = (long)TILES * kernels + PAD;
    float *products = scratch + POINTS * in_point;
    for (long from; (from = TILES * atomic_fetch_add(next, 1)) < across * down;) {
        const long some = across * down - from < TILES ? across * down - from : TILES;
        for (long t = 0; t < some; t++) {
            const float *begin[SIDE];
            const long row = (from + t) / across * TILE, column = (from + t) % across * TILE;
            for (int i = 0; i < SIDE; i++) begin[i] = in[row + i] + column * channels;
            tile_in(begin, channels, in_point, scratch + t * channels);
        }
        for (int k = 0; k < channels; k += kernels) {
            products_of(scratch, in_point, weights + (long)k * channels, kernel_point(channels), some, channels,
                        kernels, products, out_point);
            for (long t = 0; t < some; t++) {
                const long row = (from + t) / across * TILE, column = (from + t) % across * TILE;
                tile_out(products + t * kernels, out_point, k, kernels, channels, row, column + 1,
                         rows - row < TILE ? rows - row : TILE,
                         width - column < TILE ? width - column : TILE, &to);
            }
        }
    }
}

/* Add the transposed convolution of `rows` rows of `sum` and of the slice to `out`.
 *
 * Sample (r, c) adds to rows r*scale... and columns c*scale... of `out`, which is `across` samples
 * wide. `weights` are (taps / PANEL, channels, PANEL), taps = kernel^2 filled up to whole panels;
 * `of_slice` has as many taps; `slice` is the first sample, a zero, of the first row. `scratch` has
 * room for ROWS times as many. */
void mrlift_winograd_deconvolve(const float *const *sum, const float *slice, long stride,
                                const float *weights, const float *of_slice, int channels,
                                long width, long rows, int kernel, int scale, long across,
                                float *scratch, float *out) {
    const long taps = ((long)kernel * kernel + PANEL - 1) / PANEL * PANEL;
    for (long r = 0; r < rows; r++)
        for (long c = 1; c <= width; c += ROWS) {
            const long some = width + 1 - c < ROWS ? width + 1 - c : ROWS;
            for (long t = 0; t < taps; t += PANEL)
                product(sum[r] + c * channels, channels, weights + t * channels, channels,
                        scratch + t, taps);
            for (long q = 0; q < some; q++) {
                const float x = slice[r * stride + c + q], *from = scratch + q * taps;
                float *o = out + r * scale * across + (c - 1 + q) * scale;
                for (int i = 0; i < kernel; i++)
                    for (int j = 0; j < kernel; j++)
                        o[i * across + j] += from[i * kernel + j] + x * of_slice[i * kernel + j];
            }
        }
}

/* For training: whole images (count, height, width, channels), beyond which all is zero. */
struct images {
    int channels;
    long count, height, width;
};

inlined long tiles_across(const struct images *of) { return (of->width + TILE - 1) / TILE; }
inlined long tiles_down(const struct images *of) { return (of->height + TILE - 1) / TILE; }

/* Where tile `t` begins: the address of its image, row and column. */
inlined long tile_at(const struct images *of, long t, long *row, long *column) {
    const long across = tiles_across(of), down = tiles_down(of);
    *row = t / across % down * TILE;
    *column = t % across * TILE;
    return t / across / down * of->height * of->width * of->channels;
}

/* `side` rows and columns of an image from `row` and `column` on, with zeros outside of it. */
static void cut_out(const float *image, const struct images *of, long row, long column, int side, float *to) {
    const int channels = of->channels;
    for (long r = row; r < row + side; r++)
        for (long c = column; c < column + side; c++, to += channels)
            if (r < 0 || c < 0 || r >= of->height || c >= of->width)
                for (int k = 0; k < channels; k += LANES) store(to + k, all(0.0f));
            else
                for (int k = 0; k < channels; k += LANES)
                    store(to + k, load(image + (r * of->width + c) * channels + k));
}

/* Numbers of memory that a thread needs for images. */
long mrlift_winograd_images_scratch(int channels) {
    return mrlift_winograd_scratch(channels) + SIDE * SIDE * channels;
}

/* out = convolution of images; weights from mrlift_winograd_kernels. */
void mrlift_winograd_images(const float *in, const float *weights, const float *bias, int channels,
                            long count, long height, long width, float *out, float *scratch,
                            atomic_long *next) {
    const struct images of = {channels, count, height, width};
    const int kernels = channels < KERNELS ? channels : KERNELS;
    const long in_point = (long)TILES * channels + PAD, out_point = (long)TILES * kernels + PAD;
    const long tiles = count * tiles_down(&of) * tiles_across(&of);
    float *products = scratch + POINTS * in_point, *tile = products + POINTS * out_point;
    const float *begin[SIDE];
    for (int i = 0; i < SIDE; i++) begin[i] = tile + (long)i * SIDE * channels;
    for (long from; (from = TILES * atomic_fetch_add(next, 1)) < tiles;) {
        const long some = tiles - from < TILES ? tiles - from : TILES;
        long row, column;
        for (long t = 0; t < some; t++) {
            const float *image = in + tile_at(&of, from + t, &row, &column);
            cut_out(image, &of, row - 1, column - 1, SIDE, tile);
            tile_in(begin, channels, in_point, scratch + t * channels);
        }
        for (int k = 0; k < channels; k += kernels) {
            products_of(scratch, in_point, weights + (long)k * channels, kernel_point(channels), some,
                        channels, kernels, products, out_point);
            for (long t = 0; t < some; t++) {
                float *image = out + tile_at(&of, from + t, &row, &column), *rows[TILE];
                for (int i = 0; i < TILE; i++) rows[i] = image + (row + i) * width * channels;
                const struct result to = {bias, -INFINITY, rows};
                tile_out(products + t * kernels, out_point, k, kernels, channels, 0, column,
                         height - row < TILE ? height - row : TILE,
                         width - column < TILE ? width - column : TILE, &to);
            }
        }
    }
}

/* The adjoint of transform_back: what six results were made of. */
inlined void transform_results(const vec *o, vec *m) {
    vec even = o[0] + o[2] + o[4], odd = o[1] + o[3] + o[5];
    m[0] = o[0];
    m[1] = even + odd;
    m[2] = even - odd;
    even = o[0] + o[2] * all(4.0f) + o[4] * all(16.0f);
    odd = o[1] * all(2.0f) + o[3] * all(8.0f) + o[5] * all(32.0f);
    m[3] = even + odd;
    m[4] = even - odd;
    even = o[0] + o[2] * all(0.25f) + o[4] * all(0.0625f);
    odd = o[1] * all(0.5f) + o[3] * all(0.125f) + o[5] * all(0.03125f);
    m[5] = even + odd;
    m[6] = even - odd;
    m[7] = o[5];
}

/* A tile of 6x6 results (TILE * TILE, channels) at its points. */
static void tile_of_results(const float *in, int channels, long point, float *out) {
    for (int c = 0; c < channels; c += LANES) {
        vec half[SIDE][TILE], line[TILE], result[SIDE];
        for (int j = 0; j < TILE; j++) {
            for (int i = 0; i < TILE; i++) line[i] = load(in + (i * TILE + j) * channels + c);
            transform_results(line, result);
            for (int i = 0; i < SIDE; i++) half[i][j] = result[i];
        }
        for (int i = 0; i < SIDE; i++) {
            transform_results(half[i], result);
            for (int j = 0; j < SIDE; j++) store(out + (i * SIDE + j) * point + c, result[j]);
        }
    }
}

/* What the gradient of the kernels is a product of: the images `in`, and `back`, the gradient of what
 * became of them; both (POINTS, tiles, channels), `point` numbers between points. */
void mrlift_winograd_points(const float *in, const float *back, int channels, long count, long height,
                            long width, long point, float *of_in, float *of_back, float *scratch,
                            atomic_long *next) {
    const struct images of = {channels, count, height, width};
    const float *begin[SIDE];
    for (int i = 0; i < SIDE; i++) begin[i] = scratch + (long)i * SIDE * channels;
    for (long t; (t = atomic_fetch_add(next, 1)) < count * tiles_down(&of) * tiles_across(&of);) {
        long row, column;
        const long image = tile_at(&of, t, &row, &column);
        cut_out(in + image, &of, row - 1, column - 1, SIDE, scratch);
        tile_in(begin, channels, point, of_in + t * channels);
        cut_out(back + image, &of, row, column, TILE, scratch);
        tile_of_results(scratch, channels, point, of_back + t * channels);
    }
}

/* out (ROWS, PANEL) = a^T b: a (depth, ROWS), b (depth, PANEL), rows of both `apart`, of out too. */
inlined void product_of_columns(const float *a, const float *b, long depth, long apart, float *out) {
    vec sums[ROWS][2];
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; r++) sums[r][0] = sums[r][1] = all(0.0f);
    for (long k = 0; k < depth; k++, a += apart, b += apart) {
        const vec left = load(b), right = load(b + LANES);
#pragma GCC unroll 16
        for (int r = 0; r < ROWS; r++) {
            const vec factor = all(a[r]);
            sums[r][0] = fma(factor, left, sums[r][0]);
            sums[r][1] = fma(factor, right, sums[r][1]);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; r++) {
        store(out + r * apart, sums[r][0]);
        store(out + r * apart + LANES, sums[r][1]);
    }
}

/* The gradient of the kernels at the points, (POINTS, rows, channels): kernels times channels of the
 * images, and rows of no use that fill up a multiple of ROWS. What these read lies between two points,
 * where there are PAD numbers or more. */
void mrlift_winograd_gradient(const float *of_in, const float *of_back, int channels, long tiles,
                              long point, long rows, float *gradient, atomic_long *next) {
    for (long p; (p = atomic_fetch_add(next, 1)) < POINTS;)
        for (int c = 0; c < channels; c += PANEL)
            for (long r = 0; r < rows; r += ROWS)
                product_of_columns(of_back + p * point + r, of_in + p * point + c, tiles, channels,
                                   gradient + (p * rows + r) * channels + c);
}

/* The adjoint of transform_taps. */
inlined void transform_taps_back(const vec *m, vec *g) {
    const vec s1 = (m[1] + m[2]) * all(-2.0f / 9), d1 = (m[1] - m[2]) * all(-2.0f / 9);
    const vec s2 = (m[3] + m[4]) * all(1.0f / 90), d2 = (m[3] - m[4]) * all(2.0f / 90);
    const vec s3 = (m[5] + m[6]) * all(8.0f / 45), d3 = (m[5] - m[6]) * all(16.0f / 45);
    g[0] = m[0] + s1 + s2 + s3 * all(4.0f);
    g[1] = d1 + d2 + d3;
    g[2] = m[7] + s1 + s2 * all(4.0f) + s3;
}

/* The gradient of the taps, (channels, 9, channels), of that at the points, (POINTS, rows, channels). */
void mrlift_winograd_taps(const float *points, int channels, long rows, float *taps,
                          atomic_long *next) {
    for (long r; (r = atomic_fetch_add(next, 1)) < channels;)
        for (int c = 0; c < channels; c += LANES) {
            vec half[3][SIDE], line[SIDE], result[3];
            for (int j = 0; j < SIDE; j++) {
                for (int i = 0; i < SIDE; i++)
                    line[i] = load(points + ((i * SIDE + j) * rows + r) * channels + c);
                transform_taps_back(line, result);
                for (int i = 0; i < 3; i++) half[i][j] = result[i];
            }
            for (int i = 0; i < 3; i++) {
                transform_taps_back(half[i], result);
                for (int j = 0; j < 3; j++)
                    store(taps + (r * 9 + i * 3 + j) * channels + c, result[j]);
            }
        }
}
