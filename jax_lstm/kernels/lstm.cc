// THE LSTM'S LOOPS over steps, forward and back, as stages/step.py derives them: each equation is
// a function, its twin stands right below it, and the letters are those of notation.py.
//
//     a = x W + h_prev U + b                             (1)   linear; x W is XLA's, and comes as z
//     i, f, o = sigmoid(a_i, a_f, a_o);  g = tanh(a_g)   (2)   sigmoid, tanh
//     c = f * c_prev + i * g                             (3)   cell_state
//     h = o * tanh(c)                                    (4)   hidden_state
//
// What is kept of a step are its slopes: the twins at the cotangent 1. The way back is products with
// them and one with U transposed; dW, dU, db and dx are XLA's, of all steps at once.
//
// Why it is fast: U is packed once, so that the numbers that meet in the processor are neighbours;
// the gates are made of a product while it is still in registers; rows of the batch are split over
// threads, and each thread runs all T steps, so that none waits for another inside of a sequence.
// An array (T, B, 4H) comes in as z and goes out as slopes, then as da: in place, where XLA may.
//
// Arrays are dense, rows are examples of steps: zs (T B, 4H), hs (T, B, H), U (H, 4H), b (4H,).

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;

// Vectors of the processor ------------------------------------------------------------------------

#if defined(__AVX512F__)
constexpr int BYTES = 64, REGISTERS = 32;
#elif defined(__AVX__)
constexpr int BYTES = 32, REGISTERS = 16;
#elif defined(__ARM_NEON)
constexpr int BYTES = 16, REGISTERS = 32;
#else
constexpr int BYTES = 16, REGISTERS = 16;
#endif

template <typename Real>
struct Kind {
  using Bits = std::conditional_t<sizeof(Real) == 4, int32_t, int64_t>;
  typedef Real Vector __attribute__((vector_size(BYTES)));
  typedef Bits Integers __attribute__((vector_size(BYTES)));
  static constexpr int64_t L = BYTES / sizeof(Real);  // numbers in a vector
};

template <typename Real>
using Vector = typename Kind<Real>::Vector;

template <typename Real>
inline Vector<Real> every(Real x) {
  return x + Vector<Real>{};
}

// n of L numbers; the others are zeros, and are not written.
template <typename Real>
inline Vector<Real> load(const Real* x, int64_t n) {
  Vector<Real> y{};
  if (n >= Kind<Real>::L) {
    std::memcpy(&y, x, sizeof y);
  } else {
    std::memcpy(&y, x, n * sizeof(Real));
  }
  return y;
}

template <typename Real>
inline void store(Real* x, Vector<Real> y, int64_t n) {
  if (n >= Kind<Real>::L) {
    std::memcpy(x, &y, sizeof y);
  } else {
    std::memcpy(x, &y, n * sizeof(Real));
  }
}

// What is soon read or written, while something else is at work.
template <typename Real>
inline void fetch(const Real* x) {
  __builtin_prefetch(x, 1);
}

// The exponential ---------------------------------------------------------------------------------

template <typename Real>
struct Exponential;

// x = n ln 2 + r, |r| <= ln 2 / 2; ln 2 is the sum of two numbers, the first of which times n is
// exact. ROUND is added and subtracted: what is left is a whole number, and its bits are the last
// ones of the sum. Beyond LOWEST and -LOWEST the result has no normal number.
template <>
struct Exponential<float> {
  static constexpr float LOG2_E = 1.44269504088896341f, LOWEST = -87.3365f, ROUND = 12582912.0f;
  static constexpr float LN2_HIGH = 0.693359375f, LN2_LOW = -2.12194440e-4f;
  static constexpr int MANTISSA = 23;
  static constexpr int32_t ONE = 0x3f800000;
  // exp(r) = 1 + r + r² p(r). Source: Cephes, expf
  static Vector<float> polynomial(Vector<float> r) {
    Vector<float> p = every(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    return p * (r * r) + r + 1.0f;
  }
};

template <>
struct Exponential<double> {
  static constexpr double LOG2_E = 1.44269504088896340736, LOWEST = -708.396;
  static constexpr double ROUND = 6755399441055744.0;
  static constexpr double LN2_HIGH = 6.93147180369123816490e-01;
  static constexpr double LN2_LOW = 1.90821492927058770002e-10;
  static constexpr int MANTISSA = 52;
  static constexpr int64_t ONE = 0x3ff0000000000000;
  // Taylor's: the first term left out is below 5e-18
  static Vector<double> polynomial(Vector<double> r) {
    Vector<double> p = every(1.0 / 6227020800);
    for (double factorial : {479001600., 39916800., 3628800., 362880., 40320., 5040., 720., 120.,
                             24., 6., 2., 1., 1.}) {
      p = p * r + 1.0 / factorial;
    }
    return p;
  }
};

// exp(x) to a rounding or two, between its least and its largest normal value; of NaN it is NaN.
template <typename Real>
inline Vector<Real> exponential(Vector<Real> x) {
  using E = Exponential<Real>;
  using Integers = typename Kind<Real>::Integers;
  x = x < E::LOWEST ? every(E::LOWEST) : x;
  x = x > -E::LOWEST ? every(-E::LOWEST) : x;
  const Vector<Real> rounded = x * E::LOG2_E + E::ROUND, n = rounded - E::ROUND;
  const Vector<Real> r = (x - n * E::LN2_HIGH) - n * E::LN2_LOW;
  const Integers power = ((Integers)rounded << E::MANTISSA) + E::ONE;
  return E::polynomial(r) * (Vector<Real>)power;
}

// STAGES, each with its twin ----------------------------------------------------------------------

// s = 1 / (1 + exp(-a))                                                                         (2)
template <typename Real>
inline Vector<Real> sigmoid(Vector<Real> a) {
  return 1 / (1 + exponential<Real>(-a));
}

// da = ds ⊙ s (1 - s)                                                                          (2')
template <typename Real>
inline Vector<Real> sigmoid_bwd(Vector<Real> s, Vector<Real> ds) {
  return ds * s * (1 - s);
}

// t = ± (1 - e) / (1 + e), e = exp(-2|a|); near 0, where 1 - e loses digits, Lambert's fraction  (2)
template <typename Real>
inline Vector<Real> tanh(Vector<Real> a) {
  using Integers = typename Kind<Real>::Integers;
  const Integers sign = (Integers)a & (Integers)every<Real>(-0.0);
  const Vector<Real> square = a * a, size = (Vector<Real>)((Integers)a ^ sign);
  const Vector<Real> e = exponential<Real>(-2 * size);
  const Vector<Real> far = (Vector<Real>)((Integers)(1 - e) ^ sign);
  const Vector<Real> top = a * (135135 + square * (17325 + square * (378 + square)));
  const Vector<Real> bottom = 135135 + square * (62370 + square * (3150 + square * 28));
  const auto near = square < Real(0.25);
  return (near ? top : far) / (near ? bottom : 1 + e);
}

// da = dt ⊙ (1 - t²), as (1 + t)(1 - t): exact where |t| is near 1                             (2')
template <typename Real>
inline Vector<Real> tanh_bwd(Vector<Real> t, Vector<Real> dt) {
  return dt * (1 + t) * (1 - t);
}

// c = f ⊙ c_prev + i ⊙ g                                                                        (3)
template <typename Real>
inline Vector<Real> cell_state(Vector<Real> f, Vector<Real> c_prev, Vector<Real> i,
                               Vector<Real> g) {
  return f * c_prev + i * g;
}

// df = dc ⊙ c_prev    dc_prev = dc ⊙ f    di = dc ⊙ g    dg = dc ⊙ i     here at dc = 1         (3')
template <typename Real>
struct CellStateBwd {
  Vector<Real> df, dc_prev, di, dg;
};
template <typename Real>
inline CellStateBwd<Real> cell_state_bwd(Vector<Real> f, Vector<Real> c_prev, Vector<Real> i,
                                         Vector<Real> g) {
  return {c_prev, f, g, i};
}

// h = o ⊙ s,  s = tanh(c)                                                                       (4)
template <typename Real>
inline Vector<Real> hidden_state(Vector<Real> o, Vector<Real> s) {
  return o * s;
}

// do = dh ⊙ s        dc = dh ⊙ o ⊙ (1 - s²)       here at dh = 1                                (4')
template <typename Real>
struct HiddenStateBwd {
  Vector<Real> d_o, dc;
};
template <typename Real>
inline HiddenStateBwd<Real> hidden_state_bwd(Vector<Real> o, Vector<Real> s) {
  return {s, tanh_bwd<Real>(s, o)};
}

// The product, tile by tile -----------------------------------------------------------------------

constexpr int FOUR = 4, TWO = 2;  // vectors of a panel: one for each gate forward, and two back
// Rows of a tile: its sums, one row of the panel and one number are in registers.
constexpr int ROWS = REGISTERS == 32 ? 6 : 3, ROWS_BACK = REGISTERS == 32 ? 8 : 6;

// y = x W of one tile: R rows and N vectors of columns, in registers; or y + x W. W is packed.   (1)
template <typename Real, int R, int N>
inline void linear_tile(const Real* const* x, int64_t start, const Real* W, int64_t K, bool add,
                        Vector<Real> (*y)[N]) {
  constexpr int64_t L = Kind<Real>::L;
  const Real* row[R];
  Vector<Real> sums[R][N];  // y itself would be written at each k
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    row[r] = x[r] + start;
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) sums[r][n] = Vector<Real>{};
  }
  for (int64_t k = 0; k < K; ++k, W += N * L) {
    Vector<Real> w[N];
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) w[n] = load(W + n * L, L);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const Real x_k = row[r][k];
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) sums[r][n] += x_k * w[n];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) y[r][n] = add ? y[r][n] + sums[r][n] : sums[r][n];
  }
}

// tile(first, R) over n rows in tiles of nearly one size, R at most `most` and known to the compiler.
template <int R, typename Tile>
inline void one_tile(int64_t rows, int64_t first, const Tile& tile) {
  if constexpr (R > 0) {
    if (rows == R) {
      tile(first, std::integral_constant<int, R>());
    } else {
      one_tile<R - 1>(rows, first, tile);
    }
  }
}

inline int64_t ratio(int64_t n, int64_t m) { return (n + m - 1) / m; }

template <int most, typename Tile>
inline void over_tiles(int64_t n, const Tile& tile) {
  const int64_t tiles = ratio(n, most);
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t first = n * t / tiles;
    one_tile<most>(n * (t + 1) / tiles - first, first, tile);
  }
}

// Of a panel, at a time: all rows meet it in the first cache.
constexpr int64_t STRIP_BYTES = 1 << 14;

// y = x W for n rows and one panel of W: strip by strip, tile by tile.                          (1)
template <typename Real, int most, int N>
inline void linear(const Real* const* x, int64_t n, const Real* W, int64_t K, Vector<Real> (*y)[N]) {
  constexpr int64_t strip = STRIP_BYTES / (N * BYTES);
  for (int64_t k = 0; k < K; k += strip) {
    over_tiles<most>(n, [&](int64_t at, auto R) {
      const Real* panel = W + k * N * Kind<Real>::L;
      linear_tile<Real, R, N>(x + at, k, panel, std::min(strip, K - k), k > 0, y + at);
    });
  }
}

// The weights, packed -----------------------------------------------------------------------------

struct Free {
  void operator()(void* x) const { std::free(x); }
};
template <typename X>
using Room = std::unique_ptr<X[], Free>;

template <typename X>
Room<X> room(int64_t size) {
  void* x = nullptr;
  if (posix_memalign(&x, 64, std::max<int64_t>(size, 1) * sizeof(X))) throw std::bad_alloc();
  return Room<X>(static_cast<X*>(x));
}

// U (H, 4H) as panels of L units: of each k, its weights into i, f, g and o of these units.
template <typename Real>
Room<Real> pack(const Real* U, int64_t H) {
  constexpr int64_t L = Kind<Real>::L;
  auto packed = room<Real>(ratio(H, L) * H * FOUR * L);
  Real* to = packed.get();
  for (int64_t first = 0; first < H; first += L) {
    const int64_t n = std::min(L, H - first);
    for (int64_t k = 0; k < H; ++k) {
      for (int gate = 0; gate < FOUR; ++gate, to += L) {
        store<Real>(to, load<Real>(U + (k * FOUR + gate) * H + first, n), L);
      }
    }
  }
  return packed;
}

// Uᵀ (4H, H) as panels of 2 L units.
template <typename Real>
Room<Real> pack_transposed(const Real* U, int64_t H) {
  constexpr int64_t width = TWO * Kind<Real>::L, strip = 16;
  auto packed = room<Real>(ratio(H, width) * FOUR * H * width);
  Real* panel = packed.get();
  for (int64_t first = 0; first < H; first += width, panel += FOUR * H * width) {
    for (int64_t start = 0; start < FOUR * H; start += strip) {
      const int64_t stop = std::min(start + strip, FOUR * H);
      for (int64_t n = 0; n < width; ++n) {
        for (int64_t k = start; k < stop; ++k) {
          panel[k * width + n] = first + n < H ? U[(first + n) * FOUR * H + k] : Real(0);
        }
      }
    }
  }
  return packed;
}

// Rows of the batch over threads ------------------------------------------------------------------

// Numbers too small to be normal are zeros here, as in XLA's own loops: they are a hundred times
// slower, and a gradient that vanishes goes through them.
struct NoSubnormals {
#if defined(__SSE__)
  unsigned before = _mm_getcsr();
  NoSubnormals() { _mm_setcsr(before | 0x8040); }
  ~NoSubnormals() { _mm_setcsr(before); }
#endif
};

constexpr int64_t WORTH_A_THREAD = 1 << 21;  // multiplications; handing over takes microseconds

// run(first, last) for parts of [0, B), on the threads that are free: this one, and XLA's. No part
// waits for a thread: what nobody has begun this one does itself.
template <typename Run>
void over_rows(ffi::ThreadPool pool, int64_t B, int64_t multiplications, const Run& run) {
  const int64_t most = std::max<int64_t>(multiplications / WORTH_A_THREAD, 1);
  const int64_t parts = std::min({B, most, std::max<int64_t>(pool.num_threads(), 1)});
  struct Shared {
    std::atomic<int64_t> next{0};
    int64_t done = 0;
    bool failed = false;
    std::mutex mutex;
    std::condition_variable all;
  };
  auto shared = std::make_shared<Shared>();
  auto work = [shared, parts, B, &run] {
    for (int64_t n; (n = shared->next++) < parts;) {
      bool failed = false;
      try {
        NoSubnormals flush;
        run(B * n / parts, B * (n + 1) / parts);
      } catch (const std::bad_alloc&) {  // which is told on the thread that was called
        failed = true;
      }
      std::lock_guard<std::mutex> lock(shared->mutex);
      shared->failed |= failed;
      if (++shared->done == parts) shared->all.notify_all();
    }
  };
  for (int64_t n = 1; n < parts; ++n) pool.Schedule(decltype(work)(work));
  work();
  std::unique_lock<std::mutex> lock(shared->mutex);
  shared->all.wait(lock, [&] { return shared->done == parts; });
  if (shared->failed) throw std::bad_alloc();
}

// Forward -----------------------------------------------------------------------------------------

struct Sizes {
  int64_t T, B, H;
  bool reverse;
  // The step of number n in the direction of the run.
  int64_t step(int64_t n) const { return reverse ? T - 1 - n : n; }
};

template <typename Real>
struct Forward {
  Sizes size;
  const Real *zs, *b, *U, *h_first, *c_first, *fresh_h, *fresh_c;
  const bool *mask, *resets;  // null: every step is one, none begins anew
  Real *hs, *h_last, *c_last;
  Real *slopes, *dc_slopes;  // null: nobody goes back
};

// One step of some units of some rows: (1) to (4), and what (4'), (3') and (2') are at 1. tanh(c)
// waits for c: in a loop of its own it waits while other rows are at work.
template <typename Real>
void step(const Forward<Real>& f, Vector<Real> (*hU)[FOUR], int64_t first, int64_t t,
          const int64_t* rows, int64_t R) {
  using V = Vector<Real>;
  const int64_t H = f.size.H, B = f.size.B, n = std::min(Kind<Real>::L, H - first);
  for (int64_t r = 0; r < R; ++r) {
    const int64_t row = t * B + rows[r];
    const Real* z = f.zs + row * FOUR * H + first;
    const Real* b = f.b + first;
    Real* c_now = f.c_last + rows[r] * H + first;
    V a[FOUR];
    for (int gate = 0; gate < FOUR; ++gate) {
      a[gate] = load(z + gate * H, n) + hU[r][gate] + load(b + gate * H, n);  // (1)
    }
    const V i = sigmoid<Real>(a[0]), f_ = sigmoid<Real>(a[1]);  // (2)
    const V g = tanh<Real>(a[2]), o = sigmoid<Real>(a[3]);
    const V c_prev = load(c_now, n), c = cell_state<Real>(f_, c_prev, i, g);  // (3)
    store<Real>(c_now, c, n);
    hU[r][0] = c, hU[r][1] = o;
    if (!f.slopes) continue;
    const auto [df, dc_prev, di, dg] = cell_state_bwd<Real>(f_, c_prev, i, g);  // (3')
    Real* da = f.slopes + row * FOUR * H + first;
    store<Real>(da, sigmoid_bwd<Real>(i, di), n);  // (2')
    store<Real>(da + H, sigmoid_bwd<Real>(f_, df), n);
    store<Real>(da + 2 * H, tanh_bwd<Real>(g, dg), n);
    store<Real>(f.dc_slopes + row * 2 * H + H + first, dc_prev, n);
  }
  for (int64_t r = 0; r < R; ++r) {
    const int64_t row = t * B + rows[r];
    const V c = hU[r][0], o = hU[r][1];
    const V s = tanh<Real>(c), h = hidden_state<Real>(o, s);  // (4)
    store<Real>(f.hs + row * H + first, h, n);
    if (!f.slopes) continue;
    const auto [d_o, dc] = hidden_state_bwd<Real>(o, s);  // (4')
    store<Real>(f.slopes + row * FOUR * H + 3 * H + first, sigmoid_bwd<Real>(o, d_o), n);  // (2')
    store<Real>(f.dc_slopes + row * 2 * H + first, dc, n);
  }
}

// All T steps of the rows first ... last - 1.
template <typename Real>
void run_rows(const Forward<Real>& f, const Real* U, int64_t first, int64_t last) {
  const auto [T, B, H, reverse] = f.size;
  const int64_t panel = H * FOUR * Kind<Real>::L;
  std::vector<int64_t> rows(last - first);
  std::vector<const Real*> h_prev(last - first);
  const auto hU = room<Vector<Real>[FOUR]>(last - first);
  std::copy(f.c_first + first * H, f.c_first + last * H, f.c_last + first * H);
  const Real* before = f.h_first;
  for (int64_t step_number = 0; step_number < T; ++step_number) {
    const int64_t t = f.size.step(step_number);
    Real* hs = f.hs + t * B * H;
    int64_t n = 0;
    for (int64_t row = first; row < last; ++row) {
      const Real* h = before + row * H;
      if (f.resets && f.resets[t * B + row]) {  // before the step, masked or not
        h = f.fresh_h + row * H;
        std::copy_n(f.fresh_c + row * H, H, f.c_last + row * H);
      }
      if (!f.mask || f.mask[t * B + row]) {
        rows[n] = row;
        h_prev[n++] = h;
        continue;
      }
      std::copy_n(h, H, hs + row * H);  // the state is carried through
      if (f.slopes) {
        std::fill_n(f.slopes + (t * B + row) * FOUR * H, FOUR * H, Real(0));
        std::fill_n(f.dc_slopes + (t * B + row) * 2 * H, 2 * H, Real(0));
      }
    }
    for (int64_t unit = 0, p = 0; unit < H; unit += Kind<Real>::L, ++p) {
      for (int64_t r = 0; r < n; ++r) {  // what the step will want comes while the product is made
        const int64_t row = t * B + rows[r];
        for (int gate = 0; gate < FOUR; ++gate) fetch(f.zs + (row * FOUR + gate) * H + unit);
        fetch(f.hs + row * H + unit);
        if (!f.slopes) continue;
        fetch(f.dc_slopes + row * 2 * H + unit);
        fetch(f.dc_slopes + row * 2 * H + H + unit);
      }
      linear<Real, ROWS, FOUR>(h_prev.data(), n, U + p * panel, H, hU.get());
      step(f, hU.get(), unit, t, rows.data(), n);
    }
    before = hs;
  }
  std::copy(before + first * H, before + last * H, f.h_last + first * H);
}

// Backward ----------------------------------------------------------------------------------------

template <typename Real>
struct Backward {
  Sizes size;
  const Real *slopes, *dc_slopes, *U;
  const Real *dhs;  // null: nobody outside looks at hs
  const Real *dh_last, *dc_last;
  const bool *mask, *resets;
  Real *das, *dh, *dc;         // dh and dc: of the state, first carried and then handed over
  Real *dfresh_h, *dfresh_c;
};

// (F') at h_t and at c_t, (4'), (3'), (2') of one row: the forward read bottom-up.
template <typename Real>
void step_bwd(const Backward<Real>& f, int64_t t, int64_t row) {
  using V = Vector<Real>;
  const int64_t H = f.size.H, at = t * f.size.B + row;
  for (int64_t j = 0; j < H; j += Kind<Real>::L) {
    const int64_t n = std::min(Kind<Real>::L, H - j);
    const Real* slope = f.slopes + at * FOUR * H + j;
    const Real* dc_slope = f.dc_slopes + at * 2 * H + j;
    Real* da = f.das + at * FOUR * H + j;
    V dh = load<Real>(f.dh + row * H + j, n);
    if (f.dhs) dh += load(f.dhs + at * H + j, n);                        // (F') at h_t
    const V dc = load<Real>(f.dc + row * H + j, n) + dh * load(dc_slope, n);  // (4'), (F') at c_t
    for (int gate = 0; gate < 3; ++gate) {
      store<Real>(da + gate * H, dc * load(slope + gate * H, n), n);  // (3'), (2')
    }
    store<Real>(da + 3 * H, dh * load(slope + 3 * H, n), n);     // (4'), (2')
    store<Real>(f.dc + row * H + j, dc * load(dc_slope + H, n), n);  // (3')
  }
}

// All T steps of the rows first ... last - 1, the last step first.
template <typename Real>
void run_rows_bwd(const Backward<Real>& f, const Real* UT, int64_t first, int64_t last) {
  const auto [T, B, H, reverse] = f.size;
  const int64_t width = TWO * Kind<Real>::L;
  std::vector<int64_t> rows(last - first);
  std::vector<const Real*> da(last - first);
  const auto dh = room<Vector<Real>[TWO]>(last - first);
  std::copy(f.dh_last + first * H, f.dh_last + last * H, f.dh + first * H);
  std::copy(f.dc_last + first * H, f.dc_last + last * H, f.dc + first * H);
  if (f.dfresh_h) {  // also where there is no step, and so no reset
    std::fill(f.dfresh_h + first * H, f.dfresh_h + last * H, Real(0));
    std::fill(f.dfresh_c + first * H, f.dfresh_c + last * H, Real(0));
  }
  for (int64_t step_number = T; step_number-- > 0;) {
    const int64_t t = f.size.step(step_number);
    int64_t n = 0;
    for (int64_t row = first; row < last; ++row) {
      const int64_t at = t * B + row;
      if (f.mask && !f.mask[at]) {
        std::fill_n(f.das + at * FOUR * H, FOUR * H, Real(0));  // dh and dc are carried through
        continue;
      }
      step_bwd(f, t, row);
      rows[n] = row;
      da[n++] = f.das + at * FOUR * H;
    }
    for (int64_t unit = 0, p = 0; unit < H; unit += width, ++p) {
      linear<Real, ROWS_BACK, TWO>(da.data(), n, UT + p * FOUR * H * width, FOUR * H, dh.get());
      for (int64_t r = 0; r < n; ++r) {  // dx = dy Wᵀ: the fork at h_{t-1} into four gates    (1'x)
        Real* dh_row = f.dh + rows[r] * H + unit;
        store<Real>(dh_row, dh[r][0], H - unit);
        if (H - unit > Kind<Real>::L) {
          store<Real>(dh_row + Kind<Real>::L, dh[r][1], H - unit - Kind<Real>::L);
        }
      }
    }
    for (int64_t row = first; f.resets && row < last; ++row) {
      if (!f.resets[t * B + row]) continue;
      for (int64_t j = row * H; j < (row + 1) * H; ++j) {  // nothing goes back beyond a reset
        f.dfresh_h[j] += f.dh[j];
        f.dfresh_c[j] += f.dc[j];
        f.dh[j] = f.dc[j] = 0;
      }
    }
  }
}

// What XLA calls ----------------------------------------------------------------------------------

using In = ffi::AnyBuffer;
using Out = ffi::Result<ffi::AnyBuffer>;

template <typename X, typename Buffer>
X* data(const Buffer& x) {  // an array of no numbers stands for what is not given
  return x.element_count() ? static_cast<X*>(x.untyped_data()) : nullptr;
}

Sizes sizes_of(const In& like_hs, const In& U, bool reverse) {  // (T, B, ...), (H, 4H)
  const auto d = like_hs.dimensions();
  return {d[0], d[1], U.dimensions()[0], reverse};
}

template <typename Run>
ffi::Error with_dtype(const In& x, const Run& run) {
  try {
    if (x.element_type() == ffi::F32) {
      run(float());
    } else if (x.element_type() == ffi::F64) {
      run(double());
    } else {
      return ffi::Error::InvalidArgument("the loops of the LSTM take float32 and float64");
    }
  } catch (const std::bad_alloc&) {
    return ffi::Error(ffi::ErrorCode::kResourceExhausted, "no memory for the packed U, or for a step's sums");
  }
  return ffi::Error::Success();
}

ffi::Error forward(ffi::ThreadPool pool, In zs, In b, In U, In h, In c, In fresh_h, In fresh_c,
                   In mask, In resets, bool reverse, Out hs, Out h_last, Out c_last,
                   In* slopes, In* dc_slopes) {
  return with_dtype(zs, [&](auto real) {
    using Real = decltype(real);
    const Sizes size = sizes_of(*hs, U, reverse);
    const Forward<Real> f{size, data<Real>(zs), data<Real>(b), data<Real>(U), data<Real>(h),
                          data<Real>(c), data<Real>(fresh_h), data<Real>(fresh_c),
                          data<bool>(mask), data<bool>(resets), data<Real>(*hs),
                          data<Real>(*h_last), data<Real>(*c_last),
                          slopes ? data<Real>(*slopes) : nullptr,
                          slopes ? data<Real>(*dc_slopes) : nullptr};
    if (!size.B) return;
    const auto packed = pack(f.U, size.H);
    over_rows(pool, size.B, size.T * size.B * FOUR * size.H * size.H,
              [&](int64_t first, int64_t last) { run_rows(f, packed.get(), first, last); });
  });
}

ffi::Error forward_alone(ffi::ThreadPool pool, In zs, In b, In U, In h, In c, In fresh_h,
                         In fresh_c, In mask, In resets, bool reverse, Out hs, Out h_last,
                         Out c_last) {
  return forward(pool, zs, b, U, h, c, fresh_h, fresh_c, mask, resets, reverse, hs, h_last, c_last,
                 nullptr, nullptr);
}

ffi::Error forward_for_back(ffi::ThreadPool pool, In zs, In b, In U, In h, In c, In fresh_h,
                            In fresh_c, In mask, In resets, bool reverse, Out hs, Out h_last,
                            Out c_last, Out slopes, Out dc_slopes) {
  return forward(pool, zs, b, U, h, c, fresh_h, fresh_c, mask, resets, reverse, hs, h_last, c_last,
                 &*slopes, &*dc_slopes);
}

ffi::Error backward(ffi::ThreadPool pool, In slopes, In dc_slopes, In U, In dhs, In dh_last,
                    In dc_last, In mask, In resets, bool reverse, Out das, Out dh, Out dc,
                    Out dfresh_h, Out dfresh_c) {
  return with_dtype(slopes, [&](auto real) {
    using Real = decltype(real);
    const Sizes size = sizes_of(dc_slopes, U, reverse);
    const Backward<Real> f{size, data<Real>(slopes), data<Real>(dc_slopes), data<Real>(U),
                           data<Real>(dhs), data<Real>(dh_last), data<Real>(dc_last),
                           data<bool>(mask), data<bool>(resets), data<Real>(*das),
                           data<Real>(*dh), data<Real>(*dc), data<Real>(*dfresh_h),
                           data<Real>(*dfresh_c)};
    if (!size.B) return;
    const auto packed = pack_transposed(f.U, size.H);
    over_rows(pool, size.B, size.T * size.B * FOUR * size.H * size.H,
              [&](int64_t first, int64_t last) { run_rows_bwd(f, packed.get(), first, last); });
  });
}

}  // namespace

#define NINE Arg<In>().Arg<In>().Arg<In>().Arg<In>().Arg<In>().Arg<In>().Arg<In>().Arg<In>().Arg<In>()

XLA_FFI_DEFINE_HANDLER_SYMBOL(lstm_forward, forward_alone,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().NINE.Attr<bool>("reverse")
                                  .Ret<In>().Ret<In>().Ret<In>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(lstm_forward_for_back, forward_for_back,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().NINE.Attr<bool>("reverse")
                                  .Ret<In>().Ret<In>().Ret<In>().Ret<In>().Ret<In>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(lstm_backward, backward,
                              ffi::Ffi::Bind().Ctx<ffi::ThreadPool>()
                                  .Arg<In>().Arg<In>().Arg<In>().Arg<In>().Arg<In>().Arg<In>()
                                  .Arg<In>().Arg<In>().Attr<bool>("reverse")
                                  .Ret<In>().Ret<In>().Ret<In>().Ret<In>().Ret<In>());
