/* 3x3 convolutions of whole rows in single precision's place, on the matrix units (AMX) of server
 * processors.
 *
 * AMX multiplies bfloat16 and adds in float32. A float32 value v is kept as two bfloat16 values, hi
 * = round(v) and lo = round(v - hi), and a product taken as hi*hi + hi*lo + lo*hi: what is left out
 * is below 2^-16 of it. Three products on AMX are still faster than one in AVX-512. Source of the
 * splitting: Henry, Tang and Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype
 * for Higher-Precision Computations", ARITH 2019.
 *
 * Layout. Rows of pixels lie one behind the other. Each row begins with one pixel of zeros, the
 * padding of its own left and of the right of the row above, so `stride` = width + 1. A pixel holds
 * the hi of all channels and then the lo of all channels. A convolution is then nine products of
 * matrices whose rows are consecutive pixels, moved by the tap. Channels are multiples of 32.
 */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PIXELS 32 /* of a block of results: two tiles high, */
#define KERNELS 32 /* two tiles wide: four tiles of sums, four of factors make all eight */
#define TAPS 16 /* columns of the largest transposed convolution */

/* Ask the kernel for the tile registers, once in a process; 1 if it grants them. */
int mrlift_amx_allow(void) {
    enum { REQUEST = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}

static void configure_tiles(void) {
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } tiles;
    memset(&tiles, 0, sizeof tiles);
    tiles.palette = 1;
    for (int i = 0; i < 8; i++) {
        tiles.bytes[i] = 64;
        tiles.rows[i] = 16;
    }
    _tile_loadconfig(&tiles);
}

static inline void store_split(__m512 v, uint16_t *hi, uint16_t *lo) {
    __m256bh high = _mm512_cvtneps_pbh(v);
    __m512i bits = _mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)high), 16);
    __m256bh low = _mm512_cvtneps_pbh(_mm512_sub_ps(v, _mm512_castsi512_ps(bits)));
    _mm256_storeu_si256((void *)hi, (__m256i)high);
    _mm256_storeu_si256((void *)lo, (__m256i)low);
}

/* U_0 at one pixel, 16 channels from `c` on: the first convolution of the network. */
static inline __m512 head_at(const float *slice, const float *weights, const float *bias,
                             int channels, int stride, int c) {
    __m512 v = _mm512_loadu_ps(bias + c);
    for (int tap = 0; tap < 9; tap++) {
        __m512 sample = _mm512_set1_ps(slice[(long)(tap / 3) * stride + tap % 3 - 1]);
        v = _mm512_fmadd_ps(sample, _mm512_loadu_ps(weights + (long)tap * channels + c), v);
    }
    return v;
}

/* out = relu(U_0) for `count` pixels. `slice` is one row above them, with the same stride;
 * `weights` are (9, channels). */
void mrlift_amx_head(const float *slice, const float *weights, const float *bias, int channels,
                     int stride, long count, uint16_t *out) {
    for (long p = 0; p < count; p++, out += 2 * channels) {
        if (p % stride == 0) {
            memset(out, 0, 4 * (size_t)channels);
            continue;
        }
        for (int c = 0; c < channels; c += 16) {
            __m512 v = head_at(slice + p, weights, bias, channels, stride, c);
            store_split(_mm512_max_ps(v, _mm512_setzero_ps()), out + c, out + channels + c);
        }
    }
}

/* sums = bias + the convolution at PIXELS pixels for KERNELS kernels. `in` is the pixel one row
 * above and one to the left of the first; `weights` hold, for each tap and 32 channels, the hi and
 * the lo of 16 and 16 kernels, each as a tile. */
static void convolve_block(const uint16_t *in, const uint16_t *weights, const float *bias,
                           int channels, int stride, float (*sums)[KERNELS]) {
    const long pixel = 2L * channels, bytes = 2 * pixel, tile = 512;
    _tile_loadd(0, bias, 0); /* a step of 0: the same row sixteen times */
    _tile_loadd(1, bias + 16, 0);
    _tile_loadd(2, bias, 0);
    _tile_loadd(3, bias + 16, 0);
    for (int tap = 0; tap < 9; tap++) {
        const uint16_t *hi = in + ((long)(tap / 3) * stride + tap % 3) * pixel;
        for (int c = 0; c < channels; c += 32, hi += 32, weights += 4 * tile) {
            const uint16_t *lo = hi + channels;
            _tile_loadd(6, weights, 64);
            _tile_loadd(4, lo, bytes);
            _tile_loadd(7, weights + tile, 64);
            _tile_loadd(5, lo + 16 * pixel, bytes);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
            _tile_loadd(4, hi, bytes);
            _tile_loadd(5, hi + 16 * pixel, bytes);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
            _tile_loadd(6, weights + 2 * tile, 64);
            _tile_loadd(7, weights + 3 * tile, 64);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, sums[0], KERNELS * 4);
    _tile_stored(1, sums[0] + 16, KERNELS * 4);
    _tile_stored(2, sums[16], KERNELS * 4);
    _tile_stored(3, sums[16] + 16, KERNELS * 4);
}

/* out = relu(convolution) for `count` pixels; `in` is one row above them, and PIXELS more pixels
 * than belong to it may be read behind it.
 *
 * With `slice` it is the second convolution of a unit: U_0 is added, which gives U_i, and `sum` grows
 * by `share` U_i, or becomes that with `first`. U_0 is computed again from the slice: that is cheaper
 * than to keep as many rows of it as units lie between. */
void mrlift_amx_convolve(const uint16_t *in, const uint16_t *weights, const float *bias,
                         int channels, int stride, long count, uint16_t *out, const float *slice,
                         const float *head_weights, const float *head_bias, float share, int first,
                         float *sum) {
    float sums[PIXELS][KERNELS] __attribute__((aligned(64)));
    const __m512 zero = _mm512_setzero_ps(), part = _mm512_set1_ps(share);
    const long kernels = 9L * channels * 2 * KERNELS; /* numbers of a block of weights */
    configure_tiles();
    for (long p = 0; p < count; p += PIXELS) {
        const long some = count - p < PIXELS ? count - p : PIXELS;
        for (int k = 0; k < channels; k += KERNELS) {
            convolve_block(in + (p - 1) * 2 * channels, weights + k / KERNELS * kernels, bias + k,
                           channels, stride, sums);
            for (long q = p; q < p + some; q++) {
                const int padding = q % stride == 0;
                for (int c = k; c < k + KERNELS; c += 16) {
                    __m512 v = _mm512_load_ps(sums[q - p] + c - k);
                    if (slice) {
                        float *s = sum + q * channels + c;
                        v = _mm512_add_ps(v, head_at(slice + q, head_weights, head_bias, channels,
                                                     stride, c));
                        __m512 before = first ? zero : _mm512_loadu_ps(s);
                        _mm512_storeu_ps(s, _mm512_fmadd_ps(part, v, before));
                    }
                    uint16_t *o = out + q * 2 * channels + c;
                    store_split(padding ? zero : _mm512_max_ps(v, zero), o, o + channels);
                }
            }
        }
    }
    _tile_release();
}

static inline __attribute__((always_inline)) void deconvolve(
    const float *sum, const float *slice, const float *weights, int channels, int stride, int rows,
    const int kernel, int scale, long across, float *out) {
    const float *of_slice = weights + (long)channels * kernel * TAPS;
    for (long r = 0; r < rows; r++)
        for (long c = 1; c < stride; c++) {
            __m512 taps[TAPS];
            const float *u = sum + (r * stride + c) * channels, *w = weights;
            const __m512 x = _mm512_set1_ps(slice[r * stride + c]);
            for (int k = 0; k < kernel; k++)
                taps[k] = _mm512_mul_ps(x, _mm512_loadu_ps(of_slice + k * TAPS));
            for (int i = 0; i < channels; i++, w += kernel * TAPS) {
                const __m512 value = _mm512_set1_ps(u[i]);
                for (int k = 0; k < kernel; k++)
                    taps[k] = _mm512_fmadd_ps(value, _mm512_loadu_ps(w + k * TAPS), taps[k]);
            }
            float *o = out + r * scale * across + (c - 1) * scale;
            for (int k = 0; k < kernel; k++, o += across)
                _mm512_storeu_ps(o, _mm512_add_ps(_mm512_loadu_ps(o), taps[k]));
        }
}

/* Add the transposed convolution of `rows` rows of `sum` and of the slice to `out`.
 *
 * `weights` are (channels + 1, kernel, TAPS), the slice's last, columns from `kernel` on zero. Sample
 * (r, c) adds to rows r*scale... and columns c*scale... of `out`, which is `across` samples wide and
 * has room for TAPS - kernel more behind its end. A kernel that is known to the compiler keeps its
 * sums in registers: 8, 9, 11 and 16 are those of the network; any other gives 0. */
int mrlift_amx_deconvolve(const float *sum, const float *slice, const float *weights, int channels,
                          int stride, int rows, int kernel, int scale, long across, float *out) {
#define FOR(size)                                                                              \
    case size:                                                                                 \
        deconvolve(sum, slice, weights, channels, stride, rows, size, scale, across, out);     \
        return 1;
    switch (kernel) {
        FOR(8)
        FOR(9)
        FOR(11)
        FOR(16)
    }
    return 0;
}
