// A folded DenseNet-BC on a CPU: logits in float32 or bfloat16, and their gradients by the images in float32.
//
// Lanes are pixels. A vector holds neighbouring pixels of one map, every weight is a scalar that is multiplied into
// all of them, and each map that is being summed has registers of its own: maps, classes and pixels can be any number,
// and nothing is ever shuffled. An image takes the same sums in the same order whatever goes through beside it.
//
// Words.
//   cell   32 bits: a float, or the bfloat16 of two neighbouring maps, which is what a dot product of pairs takes.
//   row    one image row of n images, interleaved (x n + image): a step to the left or right is n cells. Rows of few
//          pixels still fill vectors, and the images of a group do not meet.
//   tile   what the registers sum at a time: 2 vectors of a row by a block of maps.
//   gate   a batch norm and its ReLU but for the scale and shift, which are in the weights behind: two bounds a map.
//   block  a dense block, [y][map][row]: a layer reads the first maps and writes the next ones. That is the
//          concatenation.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <vector>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

// --- Vectors --------------------------------------------------------------------------------------------------------

// Sums of `MOST` maps in 2 vectors, 2 inputs and a weight fit the registers: 32 with AVX-512 and NEON, 16 with AVX.
#if defined(__AVX512F__)
constexpr int BYTES = 64, MOST = 12;
#elif defined(__AVX__)
constexpr int BYTES = 32, MOST = 6;
#else
constexpr int BYTES = 16, MOST = 12;
#endif
constexpr int LANES = BYTES / 4;

typedef float Vec __attribute__((vector_size(BYTES)));
typedef int32_t Ints __attribute__((vector_size(BYTES)));
typedef int16_t Shorts __attribute__((vector_size(BYTES)));
typedef float Unaligned __attribute__((vector_size(BYTES), aligned(4), may_alias));

static inline Vec load(const float* from) { return *(const Unaligned*)from; }
static inline void store(float* to, Vec x) { *(Unaligned*)to = x; }
static inline Vec all(float x) { return x - Vec{}; }
static inline Vec at_least(Vec low, Vec x) { return low > x ? low : x; }  // NaN where x is

static inline Vec first_lanes(Vec x, int count) {  // the others 0
  Ints lane;
  for (int i = 0; i < LANES; ++i) lane[i] = i;
  return (Vec)((Ints)x & (lane < count));
}

// What a cell holds, and how to compute with a vector of them.
struct Float32 {
  static constexpr int MAPS = 1;  // in a cell
  static Vec multiply_add(Vec sum, float weight, Vec x) { return sum + weight * x; }
  static Vec gate(Vec x, float low, float high) { x = at_least(all(low), x); return all(high) < x ? all(high) : x; }
  static Vec map(Vec cells, int) { return cells; }
  static Vec join(const Vec* maps) { return maps[0]; }
};

#ifdef __AVX512BF16__
struct Bfloat16 {  // an offset leaves no bound below 0, and from there on numbers are ordered as their bits are
  static constexpr int MAPS = 2;
  static Ints bits(float x) { int32_t same; std::memcpy(&same, &x, 4); return same - Ints{}; }
  static Ints rounded(Vec x) { return (Ints)x + 32767 + ((Ints)x >> 16 & 1); }  // to nearest, ties to even: the upper half
  static Vec multiply_add(Vec sum, float weights, Vec x) {
    return (Vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)bits(weights), (__m512bh)x);
  }
  static Vec gate(Vec cells, float low, float high) {
    Shorts x = (Shorts)cells, least = (Shorts)bits(low), most = (Shorts)bits(high);
    x = least > x ? least : x;
    return (Vec)(most < x ? most : x);
  }
  static Vec map(Vec cells, int which) { return (Vec)(which ? (Ints)cells & -65536 : (Ints)cells << 16); }
  static Vec join(const Vec* maps) { return (Vec)((rounded(maps[0]) >> 16 & 65535) | (rounded(maps[1]) & -65536)); }
};
#else
using Bfloat16 = Float32;
#endif

// --- Maps -----------------------------------------------------------------------------------------------------------

// [y][map][row]. Around every map lie zeros, which a 3 x 3 convolution reads: a row of them above and below, and cells
// before and behind each row; `put` keeps those that share a row's last vector at 0.
struct Maps {
  struct alignas(BYTES) Lanes { float at[LANES] = {}; };
  int height, width, n, row, vectors, pad, step;  // vectors of a row; cells before it; cells from map to map
  size_t line;                                    // cells from y to y + 1
  std::vector<Lanes> cells;

  Maps(int height, int maps, int width, int n)
      : height(height), width(width), n(n), row(width * n), vectors((row + LANES - 1) / LANES),
        pad((n + LANES - 1) / LANES * LANES), step(vectors * LANES + pad), line((size_t)maps * step),
        cells(((height + 2) * line + pad) / LANES) {}
  float* at(int y, int map = 0) { return cells[0].at + (y + 1) * line + map * step + pad; }
  void put(int y, int map, int x, Vec value) {
    store(at(y, map) + x, x + LANES <= row ? value : first_lanes(value, row - x));
  }
};

// Where gates or ReLUs let their input through: one bit for each, those of 32 maps in a word.
struct Bits {
  Maps words;
  Bits(int height, int maps, int width, int n) : words(height, (maps + 31) / 32, width, n) {}
  void set(int y, int map, int x, Ints yes) {  // of maps in their order: the first of a word clears it
    float* word = words.at(y, map / 32) + x;
    store(word, (Vec)((map % 32 ? (Ints)load(word) : Ints{}) | (yes & 1 << map % 32)));
  }
  Vec keep(int y, int map, int x, Vec value) {
    return ((Ints)load(words.at(y, map / 32) + x) & 1 << map % 32) != 0 ? value : Vec{};
  }
};

// --- Convolutions ---------------------------------------------------------------------------------------------------

struct Tape {  // all weights, in the order in which they are asked for
  const float *at, *end;
  const float* take(size_t count) { return (at += count) - count; }
};

struct Convolution {  // weights [block of maps][input cell][tap][map], and a bias for each map
  int cells, maps, block;
  const float *weight, *bias;

  Convolution(Tape& tape, int cells, int taps, int maps) : cells(cells), maps(maps), block(block_of(maps)) {
    weight = tape.take((size_t)padded(maps, block) * cells * taps);
    bias = tape.take(padded(maps, block));
  }
  static int padded(int maps, int block) { return (maps + block - 1) / block * block; }  // with maps of zeros
  static int block_of(int maps) {  // as many as fit the registers, or fewer where less is wasted
    int best = MOST;
    for (int block : {MOST * 2 / 3, MOST / 3}) best = padded(maps, block) < padded(maps, best) ? block : best;
    return best;
  }
};

// One tile of one block of maps. Input cell k lies at from[tap] + k * step.
template <class T, int MAPS, int TAPS, int BLOCK, int VECTORS, class Use>
static void sum_tile(const float* const (&from)[TAPS], int step, const Convolution& layer, int first, int x, Use use) {
  Vec sum[BLOCK][VECTORS];
  const float* weight = layer.weight + (size_t)first * layer.cells * TAPS;
#pragma GCC unroll 16
  for (int m = 0; m < BLOCK; ++m)
    for (int v = 0; v < VECTORS; ++v) sum[m][v] = all(layer.bias[first + m]);
  for (int k = 0; k < layer.cells; ++k)
#pragma GCC unroll 16
    for (int t = 0; t < TAPS; ++t, weight += BLOCK) {
      Vec input[VECTORS];
      for (int v = 0; v < VECTORS; ++v) input[v] = load(from[t] + k * step + x + v * LANES);
#pragma GCC unroll 16
      for (int m = 0; m < BLOCK; ++m)
        for (int v = 0; v < VECTORS; ++v) sum[m][v] = T::multiply_add(sum[m][v], weight[m], input[v]);
    }
#pragma GCC unroll 16
  for (int m = 0; m < BLOCK; m += MAPS)
    for (int v = 0; v < VECTORS; ++v) {
      Vec maps[MAPS];
      for (int i = 0; i < MAPS; ++i) maps[i] = sum[m + i][v];
      if (first + m < layer.maps) use(first + m, x + v * LANES, maps);
    }
}

// One row of every map. `use` takes MAPS of them at a time: (map, position in the row, their sums).
template <class T, int MAPS, int TAPS, class Use>
static void convolve(const float* const (&from)[TAPS], const Maps& in, const Convolution& layer, Use use) {
  auto tile = [&]<int VECTORS>() {
    return layer.block == MOST           ? sum_tile<T, MAPS, TAPS, MOST, VECTORS, Use>
           : layer.block == MOST * 2 / 3 ? sum_tile<T, MAPS, TAPS, MOST * 2 / 3, VECTORS, Use>
                                         : sum_tile<T, MAPS, TAPS, MOST / 3, VECTORS, Use>;
  };
  auto whole = tile.template operator()<2>(), half = tile.template operator()<1>();  // half a tile may end the row
  int blocks = (layer.maps + layer.block - 1) / layer.block, tiles = (in.vectors + 1) / 2;
  bool fewer_in = layer.cells < layer.maps;  // the fewer maps, in or out, stay in the nearest cache
  for (int i = 0; i < blocks * tiles; ++i) {
    int block = fewer_in ? i / tiles : i % blocks, vector = 2 * (fewer_in ? i % tiles : i / blocks);
    (vector + 2 <= in.vectors ? whole : half)(from, in.step, layer, block * layer.block, vector * LANES, use);
  }
}

// The same for 3 x 3, from the rows `above`, `here` and `below` of the maps from `map` on.
template <class T, int MAPS, class Use>
static void convolve_3x3(Maps& in, int above, int here, int below, int map, const Convolution& layer, Use use) {
  const float* taps[9];
  for (int t = 0; t < 9; ++t) taps[t] = in.at(t < 3 ? above : t < 6 ? here : below, map) + (t % 3 - 1) * in.n;
  convolve<T, MAPS>(taps, in, layer, use);
}

// --- A dense block --------------------------------------------------------------------------------------------------

template <class T>
struct Gate {
  int cells;
  const float *low, *high;
  Bits passed;  // where it changed nothing, for `backward`
  Gate(Tape& tape, int maps, const Maps& block)
      : cells(maps / T::MAPS), low(tape.take(cells)), high(tape.take(cells)),
        passed(block.height, maps, block.width, block.n) {}
};

// And the pooling behind it, of down_y x down_x pixels.
template <class T>
struct DenseBlock {
  struct Layer {
    Gate<T> gate;
    Convolution squeeze, grow, squeeze_back, grow_back;  // to 4 growth maps, and to the new ones; both transposed
    Bits positive;
  };
  static constexpr int MAPS = T::MAPS;
  int maps, down_y, down_x;
  Maps block, gated, squeezed, pooled;  // `gated` is one row of each map, `squeezed` a ring of three
  Gate<T> last;                         // of what follows the block
  std::vector<Layer> layers;

  // Pools into one pixel if `window` is given, the mean over so many at the top left, else by 2 x 2.
  DenseBlock(Tape& tape, int height, int width, int n, int enter, int growth, int depth, int window)
      : maps(enter + depth * growth), down_y(window ? std::min(window, height) : 2),
        down_x(window ? std::min(window, width) : 2), block(height, maps / MAPS, width, n),
        gated(1, std::max({maps, 4 * growth, 1 + MAPS}), width, n), squeezed(3, 4 * growth / MAPS, width, n),
        pooled(window ? 1 : height / 2, maps, window ? 1 : width / 2, n), last(tape, maps, block) {
    for (int i = 0, wide = enter, four = 4 * growth; i < depth; ++i, wide += growth)
      layers.push_back({Gate<T>(tape, wide, block), Convolution(tape, wide / MAPS, 1, four),
                        Convolution(tape, four / MAPS, 9, growth), Convolution(tape, four, 1, wide),
                        Convolution(tape, growth, 9, four), Bits(height, four, width, n)});
  }

  // One gated row of a cell, and if asked for, where the gate let it through.
  void pass(Gate<T>& gate, int y, int cell, float* out, bool record) {
    const float *in = block.at(y, cell), low = gate.low[cell], high = gate.high[cell];
    for (int x = 0, end = block.vectors * LANES; x < end; x += LANES) store(out + x, T::gate(load(in + x), low, high));
    for (int x = 0; record && x < block.row; x += LANES) gate.passed.set(y, cell, x, load(in + x) == load(out + x));
  }

  // All layers, a row at a time; the 3 x 3 convolution goes one row behind, while what it reads is in the cache.
  void forward(bool record) {
    auto ring = [this](int y) { return y < 0 || y == block.height ? -1 : y % 3; };  // row -1 is zeros
    for (Layer& layer : layers)
      for (int y = 0; y <= block.height; ++y) {
        if (y < block.height) {
          for (int k = 0; k < layer.gate.cells; ++k) pass(layer.gate, y, k, gated.at(0, k), record);
          convolve<T, MAPS, 1>({gated.at(0)}, gated, layer.squeeze, [=, this, &layer](int map, int x, Vec* sums) {
            for (int i = 0; i < MAPS; ++i) sums[i] = at_least(Vec{}, sums[i]);
            squeezed.put(y % 3, map / MAPS, x, T::join(sums));
            if (record) layer.positive.set(y, map, x, sums[0] > 0);
          });
        }
        if (y > 0)
          convolve_3x3<T, MAPS>(squeezed, ring(y - 2), ring(y - 1), ring(y), 0, layer.grow,
            [=, this, to = layer.gate.cells](int map, int x, Vec* sums) {
              block.put(y - 1, to + map / MAPS, x, T::join(sums));
            });
      }
  }

  // In place of the maps their gradient: what a layer's maps give to those before it is added to these. Rows do not
  // depend on each other, because a layer's own maps change no more.
  void backward() {
    for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer)
      for (int y = 0; y < block.height; ++y) {
        convolve_3x3<T, 1>(block, y - 1, y, y + 1, layer->gate.cells, layer->grow_back,
          [=, this](int map, int x, Vec* sum) { gated.put(0, map, x, layer->positive.keep(y, map, x, *sum)); });
        convolve<T, 1, 1>({gated.at(0)}, gated, layer->squeeze_back, [=, this](int map, int x, Vec* sum) {
          block.put(y, map, x, load(block.at(y, map) + x) + layer->gate.passed.keep(y, map, x, *sum));
        });
      }
  }

  // Before the transition's 1 x 1 convolution, with which average pooling commutes: a quarter of the products.
  void pool(bool record) {
    const float share = 1.0f / (down_y * down_x);
    float* passed = gated.at(0);  // and behind it the sums of each map in the cell
    for (int y = 0; y < pooled.height; ++y)
      for (int cell = 0; cell < last.cells; ++cell) {
        for (int i = 0; i < down_y; ++i) {
          pass(last, y * down_y + i, cell, passed, record);
          for (int m = 0; m < MAPS; ++m)
            for (int x = 0; x < block.row; x += LANES) {
              float* sums = gated.at(0, 1 + m) + x;
              store(sums, (i ? load(sums) : Vec{}) + T::map(load(passed + x), m));
            }
        }
        for (int m = 0; m < MAPS; ++m) {
          float *out = pooled.at(y, cell * MAPS + m), *sums = gated.at(0, 1 + m);
          for (int x = 0, n = pooled.n; x < pooled.row; x += n, sums += n * down_x)
            for (int i = 0; i < n; ++i) {
              float sum = 0;
              for (int right = 0; right < down_x; ++right) sum += sums[right * n + i];
              out[x + i] = sum * share;
            }
        }
      }
  }

  // From the gradient of what was pooled to that of the maps, in their place. What pooling leaves out gets 0: of rows
  // because their bits were never set, of columns because they are not spread to.
  void unpool() {
    const float share = 1.0f / (down_y * down_x);
    std::fill_n(gated.at(0), block.row, 0.0f);
    for (int y = 0; y < block.height; ++y)
      for (int map = 0; map < maps; ++map) {
        float *in = pooled.at(std::min(y / down_y, pooled.height - 1), map), *spread = gated.at(0);
        for (int x = 0, n = pooled.n; x < pooled.row; x += n)
          for (int right = 0; right < down_x; ++right)
            for (int i = 0; i < n; ++i) *spread++ = in[x + i] * share;
        for (int x = 0; x < block.row; x += LANES)
          block.put(y, map, x, last.passed.keep(y, map, x, load(gated.at(0) + x)));
      }
  }
};

// --- The network ----------------------------------------------------------------------------------------------------

struct Shape { int channels, height, width, window, growth, layers, classes, n; };

struct Planar {  // for n images at a time
  virtual ~Planar() = default;
  virtual void forward(const float* images, int count, float* logits, bool record) = 0;
  virtual void backward(const float* cotangent, int count, float* gradient) = 0;
};

template <class T>
struct Network : Planar {
  Shape shape;
  Maps images, logits;
  std::vector<DenseBlock<T>> blocks;
  std::vector<Convolution> enter, enter_back;  // the first 3 x 3 convolution, two transitions' 1 x 1, the classifier

  Network(Tape& tape, const Shape& s)
      : shape(s), images(s.height, s.channels, s.width, s.n), logits(1, s.classes, 1, s.n) {
    for (int i = 0, from = s.channels; i < 3; ++i, from = blocks.back().maps) {
      lead(tape, from, i ? 1 : 9, i ? from / 2 : 2 * s.growth);
      blocks.emplace_back(tape, s.height >> i, s.width >> i, s.n, enter.back().maps, s.growth, s.layers,
                          i < 2 ? 0 : s.window);
    }
    lead(tape, blocks.back().maps, 1, s.classes);
  }

  void lead(Tape& tape, int from, int taps, int to) {
    enter.emplace_back(tape, from, taps, to);
    enter_back.emplace_back(tape, to, taps, from);
  }

  template <class Use>
  void each_pixel(int count, Use use) {  // in the order of [count, channels, height, width]
    for (int image = 0; image < count; ++image)
      for (int c = 0; c < shape.channels; ++c)
        for (int y = 0; y < shape.height; ++y)
          for (int x = 0; x < shape.width; ++x) use(images.at(y, c)[x * shape.n + image]);
  }

  template <class Use>
  void each_logit(int count, Use use) {  // in the order of [count, classes]
    for (int image = 0; image < count; ++image)
      for (int k = 0; k < shape.classes; ++k) use(logits.at(0, k)[image]);
  }

  // Logits [count, classes], n images after the other. Of the last n everything is kept for `backward` if asked for.
  void forward(const float* from, int count, float* to, bool record) override {
    for (; count > 0; count -= shape.n) {
      each_pixel(std::min(shape.n, count), [&](float& pixel) { pixel = *from++; });
      for (int i = 0; i < 3; ++i) {
        for (int y = 0; y < blocks[i].block.height; ++y) {
          auto put = [=, &out = blocks[i].block](int map, int x, Vec* sums) { out.put(y, map / T::MAPS, x, T::join(sums)); };
          if (i == 0) convolve_3x3<Float32, T::MAPS>(images, y - 1, y, y + 1, 0, enter[0], put);
          else convolve<Float32, T::MAPS, 1>({blocks[i - 1].pooled.at(y)}, blocks[i - 1].pooled, enter[i], put);
        }
        blocks[i].forward(record);
        blocks[i].pool(record);
      }
      Maps& features = blocks[2].pooled;
      convolve<Float32, 1, 1>({features.at(0)}, features, enter[3],
        [this](int k, int x, Vec* sum) { logits.put(0, k, x, *sum); });
      each_logit(std::min(shape.n, count), [&](float logit) { *to++ = logit; });
    }
  }

  // Gradients [count, channels, height, width] of the sum of `cotangent` [count, classes] times the logits recorded.
  void backward(const float* from, int count, float* to) override {
    if constexpr (T::MAPS == 1) {
      each_logit(count, [&](float& logit) { logit = *from++; });
      convolve<T, 1, 1>({logits.at(0)}, logits, enter_back[3],
        [this](int map, int x, Vec* sum) { blocks[2].pooled.put(0, map, x, *sum); });
      for (int i = 2; i >= 0; --i) {
        blocks[i].unpool();
        blocks[i].backward();
        Maps& block = blocks[i].block;
        for (int y = 0; y < block.height; ++y) {
          auto put = [=, &out = i ? blocks[i - 1].pooled : images](int map, int x, Vec* sum) { out.put(y, map, x, *sum); };
          if (i == 0) convolve_3x3<T, 1>(block, y - 1, y, y + 1, 0, enter_back[0], put);
          else convolve<T, 1, 1>({block.at(y)}, block, enter_back[i], put);
        }
      }
      each_pixel(count, [&](float pixel) { *to++ = pixel; });
    }
  }
};

template <class T>
static Planar* made(Tape tape, const Shape& shape) {  // none without memory, or if the shape does not fit the tape
  try {
    auto found = std::make_unique<Network<T>>(tape, shape);
    return tape.at == tape.end ? found.release() : nullptr;
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

// --- For ctypes -----------------------------------------------------------------------------------------------------

extern "C" {
int planar_lanes() { return LANES; }
int planar_has_bfloat16() { return Bfloat16::MAPS == 2; }
int planar_block(int maps) { return Convolution::block_of(maps); }
Planar* planar_new(const Shape* shape, const float* tape, int64_t length, int bfloat16) {  // for one thread at a time
  return bfloat16 ? made<Bfloat16>({tape, tape + length}, *shape) : made<Float32>({tape, tape + length}, *shape);
}
void planar_delete(Planar* p) { delete p; }
void planar_forward(Planar* p, const float* images, int count, float* logits, int record) {
  p->forward(images, count, logits, record);
}
void planar_backward(Planar* p, const float* cotangent, int count, float* gradient) {
  p->backward(cotangent, count, gradient);
}
}
