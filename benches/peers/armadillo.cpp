// EM by Armadillo's gmm_full and gmm_diag from a given start.
//   armadillo full|diag f64|f32 points.npy parameters N D C iterations
// reads the start from `parameters` (f64: weights, means, covariances), writes the result there, and prints seconds
// per iteration and peak memory. Without arguments it prints the version.
#include <armadillo>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>
#include <type_traits>
#include <vector>

using Clock = std::chrono::steady_clock;

static long peak_bytes() {
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;)
        if (word == "VmHWM:") {
            long kilobytes;
            status >> kilobytes;
            return 1024 * kilobytes;
        }
    return 0;
}

template <class T, bool full>
int run(char **arguments) {
    using Model = std::conditional_t<full, arma::gmm_priv::gmm_full<T>, arma::gmm_priv::gmm_diag<T>>;
    const arma::uword n = std::atoll(arguments[5]), d = std::atoll(arguments[6]), c = std::atoll(arguments[7]);
    const int iterations = std::atoi(arguments[8]);

    arma::Mat<T> points(d, n);
    std::ifstream data(arguments[3], std::ios::binary);
    data.seekg(128);  // the header of .npy
    data.read(reinterpret_cast<char *>(points.memptr()), sizeof(T) * points.n_elem);
    const arma::uword size = full ? d * d : d;
    std::vector<double> flat(c * (1 + d + size));
    std::ifstream start(arguments[4], std::ios::binary);
    start.read(reinterpret_cast<char *>(flat.data()), 8 * flat.size());
    if (!data || !start) return 3;

    const arma::mat all_means(flat.data() + c, d, c);
    const arma::rowvec all_weights(flat.data(), c);
    double *covariances = flat.data() + c + c * d;
    Model model;
    const auto means = arma::conv_to<arma::Mat<T>>::from(all_means);
    const auto weights = arma::conv_to<arma::Row<T>>::from(all_weights);
    if constexpr (full)
        model.set_params(means, arma::conv_to<arma::Cube<T>>::from(arma::cube(covariances, d, d, c)), weights);
    else
        model.set_params(means, arma::conv_to<arma::Mat<T>>::from(arma::mat(covariances, d, c)), weights);

    const auto begin = Clock::now();
    for (int i = 0; i < iterations; ++i)
        if (!model.learn(points, c, arma::eucl_dist, arma::keep_existing, 0, 1, T(0), false)) return 4;
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();

    std::vector<double> result(model.hefts.begin(), model.hefts.end());
    result.insert(result.end(), model.means.begin(), model.means.end());
    if constexpr (full)
        result.insert(result.end(), model.fcovs.begin(), model.fcovs.end());
    else
        result.insert(result.end(), model.dcovs.begin(), model.dcovs.end());
    std::ofstream(arguments[4], std::ios::binary).write(reinterpret_cast<char *>(result.data()), 8 * result.size());
    std::printf("%.9f %ld\n", seconds / iterations, peak_bytes());
    return 0;
}

int main(int count, char **arguments) {
    if (count != 9) {
        std::cout << arma::arma_version::as_string() << "\n";
        return count == 1 ? 0 : 2;
    }
    const bool full = std::string(arguments[1]) == "full", single = std::string(arguments[2]) == "f32";
    if (full) return single ? run<float, true>(arguments) : run<double, true>(arguments);
    return single ? run<float, false>(arguments) : run<double, false>(arguments);
}
