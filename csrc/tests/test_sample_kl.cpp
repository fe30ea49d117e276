// The sample_kl kernels of the GPU and every CPU level against plain double arithmetic, and bit for bit against each
// other.
#include "check.h"
//
#include "cpu/philox_vector.h"
#include "cpu/sample_kl.simd.h"
#include "cuda/sample_kl.cuh"

namespace {

using namespace cvhpe;
using test::Guarded;

constexpr uint64_t kKey = 0x0123456789abcdefu;

// Known answers of Philox 4x32-10, from the authors' test vectors.
void philox_answers() {
  const math::Words zero = math::philox(0, 0, 0);
  const uint32_t of_zero[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
  const math::Words pi = math::philox(0x243f6a88, 0x85a308d3, 0x299f31d0a4093822, 0x13198a2e, 0x03707344);
  const uint32_t of_pi[4] = {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1};
  for (int w = 0; w < 4; ++w) test::expect(zero.v[w] == of_zero[w] && pi.v[w] == of_pi[w], "philox: known answer");
}

double noise_reference(uint64_t element) {
  const uint64_t counter = element / 64 * 16 + element % 16;
  const math::Words r = math::philox(static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), kKey);
  const int word = static_cast<int>(element / 16 % 4);
  const double uniform = ((r.v[word / 2 * 2] >> 8) + 1.0) / 16777216.0;
  const uint32_t angle_word = r.v[word / 2 * 2 + 1];
  const double low = angle_word % (1u << 30), angle = M_PI / 2 * (low / (1 << 30) - (low < (1 << 29) ? 0 : 1));
  const double cosine = angle_word >> 31 ? -std::cos(angle) : std::cos(angle);
  const bool swap = angle_word >> 30 & 1;
  return std::sqrt(-2 * std::log(uniform)) * ((word % 2 == 0) != swap ? cosine : std::sin(angle));
}

struct Levels {
  std::vector<std::pair<std::string, const SampleKlTable*>> tables;
  Levels() {
    for (const char* name : {"portable", "avx2", "avx512"}) {
      try {
        set_level(name);
      } catch (const std::exception&) {
        std::printf("level %s: not on this CPU, left out\n", name);
        continue;
      }
      tables.emplace_back(name, &CVHPE_PICK(sample_kl_table));
    }
  }
};

template <class T>
void run(int index, int64_t rows, int64_t columns, double tolerance, const Levels& levels) {
  const size_t n = static_cast<size_t>(rows * columns);
  Guarded<T> mu(n), logvar(n), grad_z(n), z(n), grad_mu(n), grad_logvar(n);
  Guarded<float> kl(rows), grad_kl(rows);
  Guarded<int64_t> seed(1, static_cast<int64_t>(kKey));
  test::Numbers numbers(static_cast<uint64_t>(rows * 131 + columns));
  numbers.fill(mu, 2);
  numbers.fill(logvar, 3);
  numbers.fill(grad_z, 1);
  numbers.fill(grad_kl, 1);
  const std::string at = std::to_string(rows) + "x" + std::to_string(columns);
  const unsigned grid = static_cast<unsigned>((rows + kSampleKlRows - 1) / kSampleKlRows);
  test::both_orders([&](bool) {
    cuda_on_cpu::launch(grid, kSampleKlThreads, [&] {
      sample_kl_forward_kernel<T>(mu.data(), logvar.data(), seed.data(), rows, columns, z.data(), kl.data());
    });
    cuda_on_cpu::launch(grid, kSampleKlThreads, [&] {
      sample_kl_backward_kernel<T>(grad_z.data(), grad_kl.data(), mu.data(), logvar.data(), seed.data(), rows, columns,
                                   grad_mu.data(), grad_logvar.data());
    });
    for (int64_t b = 0; b < rows; ++b) {
      double expected_kl = 0;
      for (int64_t d = 0; d < columns; ++d) {
        const int64_t i = b * columns + d;
        const double a = math::widen(mu[i]), l = math::widen(logvar[i]), sigma = std::exp(l / 2);
        expected_kl += 0.5 * (a * a + sigma * sigma - 1 - l);
        const double noise = noise_reference(static_cast<uint64_t>(i)), of_z = math::widen(grad_z[i]);
        test::expect(test::close(math::widen(z[i]), a + sigma * noise, tolerance), "z " + at);
        const double g = grad_kl[b];
        test::expect(test::close(math::widen(grad_mu[i]), of_z + g * a, tolerance), "grad_mu " + at);
        test::expect(
            test::close(math::widen(grad_logvar[i]), 0.5 * (of_z * noise * sigma + g * (sigma * sigma - 1)), tolerance),
            "grad_logvar " + at);
      }
      test::expect(test::close(kl[b], expected_kl, 1e-5), "kl " + at);
    }
    test::expect(z.intact() && kl.intact() && grad_mu.intact() && grad_logvar.intact(), "walls, GPU " + at);
  });
  for (const auto& [name, table] : levels.tables) {
    Guarded<T> z2(n), grad_mu2(n), grad_logvar2(n);
    Guarded<float> kl2(rows);
    const SampleKlLoop loop{rows, columns, kKey, mu.data(), logvar.data(), z2.data(), kl2.data(), grad_z.data(),
                            grad_kl.data(), grad_mu2.data(), grad_logvar2.data()};
    const int64_t half = rows / 2;  // as two threads would
    table->forward[index](loop, 0, half);
    table->forward[index](loop, half, rows);
    table->backward[index](loop, 0, half);
    table->backward[index](loop, half, rows);
    test::expect(same_bits(z, z2) && same_bits(kl, kl2), "forward, GPU = " + name + " " + at);
    test::expect(same_bits(grad_mu, grad_mu2) && same_bits(grad_logvar, grad_logvar2),
                 "backward, GPU = " + name + " " + at);
    test::expect(z2.intact() && kl2.intact() && grad_mu2.intact() && grad_logvar2.intact(),
                 "walls, " + name + " " + at);
  }
}

}  // namespace

int main() {
  philox_answers();
  const Levels levels;
  for (const auto& [rows, columns] : std::vector<std::array<int64_t, 2>>{
           {1, 1}, {3, 2}, {8, 16}, {9, 17}, {64, 30}, {17, 64}, {5, 130}, {2, 1500}}) {
    run<float>(kFloat, rows, columns, 1e-5, levels);
    run<BFloat>(kBFloat, rows, columns, 1e-2, levels);
    run<Half>(kHalf, rows, columns, 2e-3, levels);
  }
  return test::report("sample_kl");
}
