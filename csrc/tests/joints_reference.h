// The joint operators in plain double arithmetic, and random test cases.
#pragma once
#include "check.h"
#include "math/joints.h"

namespace test {

struct JointsCase {
  int64_t rows, joints;
  int width;
  bool view, root_shift_weight, relative, weighted;
};

inline std::vector<JointsCase> joints_cases() {
  std::vector<JointsCase> cases;
  for (const auto& [rows, joints] :
       std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {3, 21}, {6, 32}, {2, 40}, {5, 70}})
    for (const int width : {2, 3})
      for (const int bits : {0, 3, 5, 10, 15})
        cases.push_back({rows, joints, width, (bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0, (bits & 8) != 0});
  return cases;
}

// The tensors of a case, of any of the number types.
template <class T>
struct JointsData {
  Guarded<float> angle, scale, shift, root_shift_weight, weight;
  Guarded<bool> flip;
  Guarded<T> pred, target;
  cvhpe::JointsView view{};

  explicit JointsData(const JointsCase& c)
      : angle(c.rows),
        scale(c.rows),
        shift(2 * c.rows),
        root_shift_weight(c.rows),
        weight(c.rows * c.joints),
        flip(c.rows),
        pred(c.rows * c.joints * c.width),
        target(c.rows * c.joints * c.width) {
    Numbers numbers(static_cast<uint64_t>(c.rows * 1000 + c.joints * 10 + c.width));
    numbers.fill(angle, 3.2);
    numbers.fill(scale, 1.5);
    numbers.fill(shift, 1);
    numbers.fill(root_shift_weight, 1);
    numbers.fill(pred, 2);
    numbers.fill(target, 2);
    for (size_t i = 0; i < weight.size(); ++i)
      weight[i] = numbers.next() > -0.3 ? static_cast<float>(numbers.next() + 1) : 0.f;
    for (int64_t i = 0; i < c.joints; ++i) weight[i] = 0.f;  // a sample in which nothing is visible
    for (int64_t i = 0; i < c.rows; ++i) flip[i] = i % 2 == 0;
    if (c.view) {
      view.angle = angle.data();
      view.scale = scale.data();
      view.shift = shift.data();
      view.flip = flip.data();
    }
    view.root_shift_weight = c.root_shift_weight ? root_shift_weight.data() : nullptr;
    view.root = static_cast<int>(c.joints > 4 ? 4 : 0);
    view.root_shift_joint = static_cast<int>(c.joints > 9 ? 9 : c.joints - 1);
    view.relative = c.relative;
  }
};

// The warped joints of a sample, [joints * width].
template <class T>
std::vector<double> warp_reference(const JointsCase& c, JointsData<T>& data, int64_t sample) {
  std::vector<double> p(static_cast<size_t>(c.joints * c.width));
  for (size_t i = 0; i < p.size(); ++i) p[i] = cvhpe::math::widen(data.target[sample * c.joints * c.width + i]);
  const int root = data.view.root, root_shift_joint = data.view.root_shift_joint;
  std::vector<double> origin(3, 0.0);
  for (int k = 0; k < c.width; ++k) {
    double& at = p[root * c.width + k];
    if (c.root_shift_weight) at += data.root_shift_weight[sample] * (p[root_shift_joint * c.width + k] - at);
    if (c.relative) origin[k] = at;
  }
  const double cosine = std::cos(static_cast<double>(data.angle[sample])),
               sine = std::sin(static_cast<double>(data.angle[sample]));
  for (int64_t j = 0; j < c.joints; ++j) {
    for (int k = 0; k < c.width; ++k) p[j * c.width + k] -= origin[k];
    if (!c.view) continue;
    const double x = data.flip[sample] ? -p[j * c.width] : p[j * c.width], y = p[j * c.width + 1];
    const double scale = c.width == 2 ? static_cast<double>(data.scale[sample]) : 1;
    p[j * c.width] = scale * (cosine * x - sine * y) + (c.width == 2 ? data.shift[2 * sample] : 0);
    p[j * c.width + 1] = scale * (sine * x + cosine * y) + (c.width == 2 ? data.shift[2 * sample + 1] : 0);
  }
  return p;
}

// The loss of a sample; its gradient with respect to the prediction goes to `grad`.
template <class T>
double loss_reference(const JointsCase& c, JointsData<T>& data, int64_t sample, std::vector<double>& grad) {
  const std::vector<double> target = warp_reference(c, data, sample);
  double total = 0, sum = 0;
  for (int64_t j = 0; j < c.joints; ++j) total += c.weighted ? data.weight[sample * c.joints + j] : 1;
  grad.assign(target.size(), 0.0);
  if (total == 0) return 0;
  for (size_t i = 0; i < target.size(); ++i) {
    const double w = c.weighted ? data.weight[sample * c.joints + i / c.width] : 1;
    const double d = cvhpe::math::widen(data.pred[sample * c.joints * c.width + i]) - target[i];
    sum += w * d * d;
    grad[i] = 2 * w * d / (c.width * total);
  }
  return sum / (c.width * total);
}

}  // namespace test
