// warp_image: the GPU's kernel, run on the CPU in both thread orders, and every CPU level: bit for bit against each
// other, and to rounding against a reference written from the geometry. The source ends where its buffer ends.
#include "check.h"

#include <random>

#include "cpu/warp_image.simd.h"
#include "cuda/warp_image.cuh"

using namespace cvhpe;
using test::expect;
using test::Guarded;

namespace {

struct Case {
  int batch, channels, height, width, h, w;
  bool source_pixels, out_pixels, nearest;  // channels last in memory, in and out
};

std::string name(const Case& c, const char* type, int target) {
  char text[200];
  std::snprintf(text, sizeof text, "%s to %d: %dx%dx%dx%d to %dx%d, %s in, %s out, %s", type, target, c.batch,
                c.channels, c.height, c.width, c.h, c.w, c.source_pixels ? "pixels" : "planes",
                c.out_pixels ? "pixels" : "planes", c.nearest ? "nearest" : "bilinear");
  return text;
}

void steps(bool pixels, int64_t channels, int64_t height, int64_t width, int64_t* step) {
  step[0] = channels * height * width;
  step[1] = pixels ? 1 : height * width;
  step[2] = pixels ? width * channels : width;
  step[3] = pixels ? channels : 1;
}

WarpImageJob job_of(const Case& c, int target) {
  WarpImageJob job{};
  job.batch = c.batch;
  job.channels = c.channels;
  job.height = c.height;
  job.width = c.width;
  job.h = c.h;
  job.w = c.w;
  int64_t in[4], out[4];
  steps(c.source_pixels, c.channels, c.height, c.width, in);
  steps(c.out_pixels, c.channels, c.h, c.w, out);
  job.source_image = in[0], job.source_channel = in[1], job.source_row = in[2], job.source_pixel = in[3];
  job.out_image = out[0], job.out_channel = out[1], job.out_row = out[2], job.out_pixel = out[3];
  job.margin = 1.25;
  job.mean = 3;
  job.scale = 0.25;
  job.fill = c.nearest ? 0 : 9;
  job.target = target;
  job.nearest_hole = c.nearest;
  return job;
}

// Straight from the definition, in double: fraction of the crop, back through the view, pixel, neighbours.
template <class T>
double reference(const WarpImageJob& job, int64_t b, int64_t c, int j, int i, bool& unsure) {
  const float* v = job.views + b * 5;
  const double qx = (i - (job.w - 1) / 2.) / job.w - v[2], qy = (j - (job.h - 1) / 2.) / job.h - v[3];
  const double cosine = std::cos(double(v[0])), sine = std::sin(double(v[0]));
  const double px = (cosine * qx + sine * qy) / v[1] * (v[4] > 0.5f ? -1 : 1), py = (cosine * qy - sine * qx) / v[1];
  const double x = px / job.margin * job.width + (job.width - 1) / 2.;
  const double y = py / job.margin * job.height + (job.height - 1) / 2.;
  const int x0 = int(std::floor(x)), y0 = int(std::floor(y));
  const double fx = x - x0, fy = y - y0;
  const T* plane = static_cast<const T*>(job.source) + b * job.source_image + c * job.source_channel;
  double blend = 0, covered = 0, best = 0, value = 0;
  for (int dy = 0; dy < 2; ++dy)
    for (int dx = 0; dx < 2; ++dx) {
      const int u = x0 + dx, t = y0 + dy;
      const bool inside = u >= 0 && u < job.width && t >= 0 && t < job.height;
      const double pixel = inside ? math::widen(plane[t * job.source_row + u * job.source_pixel]) : job.fill;
      const double weight = (dx ? fx : 1 - fx) * (dy ? fy : 1 - fy);
      blend += weight * pixel;
      if (pixel == 0) continue;
      covered += weight;
      if (weight > best) best = weight, value = pixel;
    }
  // Rounding may decide otherwise where two neighbours weigh the same.
  unsure = job.nearest_hole && (std::fabs(covered - 0.5) < 1e-4 || std::fabs(fx - 0.5) < 1e-4 ||
                                std::fabs(fy - 0.5) < 1e-4 || std::fabs(fx - fy) < 1e-4 ||
                                std::fabs(fx + fy - 1) < 1e-4 || fx < 1e-4 || fy < 1e-4 || fx > 0.9999 || fy > 0.9999);
  return ((job.nearest_hole ? (covered >= 0.5 ? value : 0.) : blend) - job.mean) * job.scale;
}

template <class T, int K>
void emulate(const WarpImageJob& job) {
  const WarpImageGrid g = warp_image_grid<T>(job);
  cuda_on_cpu::launch(dim3(g.x, g.y, g.z), dim3(kWarpImageThreads), [&] { warp_image_kernel<T, K>(job); });
}

template <class T, class Out>
void run(const Case& c, WarpSource source_type, const char* type, int target) {
  std::mt19937 random(7);
  const size_t in = size_t(c.batch) * c.channels * c.height * c.width, n = size_t(c.batch) * c.channels * c.h * c.w;
  Guarded<T> source(in);
  for (size_t i = 0; i < in; ++i) {
    const int value = random() % 3 == 0 ? 0 : int(random() % 200);
    source.data()[i] = T(value);
  }
  std::vector<float> views;
  for (int b = 0; b < c.batch; ++b)
    for (float v : {0.7f * float(b) - 0.9f, 0.8f + 0.1f * float(b % 5), 0.05f * float(b % 3), -0.04f, float(b % 2)})
      views.push_back(v);
  WarpImageJob job = job_of(c, target);
  job.source = source.data();
  job.views = views.data();
  const std::string what = name(c, type, target);

  std::vector<Guarded<Out>> results;
  test::both_orders([&](bool) {
    results.emplace_back(n);
    job.out = results.back().data();
    if constexpr (sizeof(T) == 1) {
      warp_image_by_three<T>(job) ? emulate<T, 3>(job) : emulate<T, 1>(job);
    } else {
      emulate<T, 1>(job);
    }
  });
  std::vector<const WarpImageTable*> levels = {&portable::warp_image_table};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) levels.push_back(&avx2::warp_image_table);
  if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    levels.push_back(&avx512::warp_image_table);
#endif
  for (const WarpImageTable* level : levels) {
    results.emplace_back(n);
    job.out = results.back().data();
    const int64_t rows = int64_t(c.batch) * c.h;
    level->rows[source_type](job, 0, rows / 3);  // in two parts, as two threads would
    level->rows[source_type](job, rows / 3, rows);
  }
  expect(source.intact(), what + ": source guard");
  for (size_t k = 0; k < results.size(); ++k) {
    expect(results[k].intact(), what + ": guard of result " + std::to_string(k));
    expect(test::same_bits(results[k], results[0]), what + ": result " + std::to_string(k) + " differs from the first");
  }
  if (target != kToFloat) return;
  for (int b = 0; b < c.batch; ++b)
    for (int ch = 0; ch < c.channels; ++ch)
      for (int j = 0; j < c.h; ++j)
        for (int i = 0; i < c.w; ++i) {
          bool unsure = false;
          const double wanted = reference<T>(job, b, ch, j, i, unsure);
          const int64_t at = b * job.out_image + ch * job.out_channel + j * job.out_row + i * job.out_pixel;
          const double got = reinterpret_cast<float*>(results[0].data())[at];
          if (!unsure && !(std::fabs(got - wanted) <= 5e-3)) {
            expect(false, what + ": " + std::to_string(got) + " instead of " + std::to_string(wanted));
            return;
          }
        }
}

template <class T>
void run_targets(const Case& c, WarpSource source, const char* type) {
  run<T, float>(c, source, type, kToFloat);
  run<T, BFloat>(c, source, type, kToBFloat);
  run<T, Half>(c, source, type, kToHalf);
}

}  // namespace

int main() {
  const int sizes[][4] = {{1, 1, 3, 2}, {2, 2, 5, 7}, {3, 4, 4, 8}, {9, 1, 2, 5}, {12, 11, 6, 37}};
  for (const auto& s : sizes)
    for (const int channels : {1, 3, 4})
      for (const bool nearest : {false, true})
        for (const bool pixels_in : {false, true})
          for (const bool pixels_out : {false, true}) {
            const Case c{2, channels, s[0], s[1], s[2], s[3], pixels_in, pixels_out, nearest};
            run_targets<uint8_t>(c, kFromByte, "bytes");
            run_targets<uint16_t>(c, kFromShort, "shorts");
            run_targets<float>(c, kFromFloat, "floats");
          }
  return test::report("warp_image");
}
