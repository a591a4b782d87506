//! Special functions against values computed in 40 digits by an independent program.

use crate::common;

use common::fixture;
use entropysum::expert::special::*;
use serde_json::Value;

/// A number of a fixture, where infinities are strings.
fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

/// Asserts `found` within `relative` or `absolute` of the fixture's value, whichever is wider.
#[track_caller]
fn assert_near(found: f64, expected: f64, relative: f64, absolute: f64, what: &str) {
    let error = (found - expected).abs();
    assert!(
        found == expected || error <= absolute.max(relative * expected.abs()),
        "{what}: {found:e}, expected {expected:e}, off by {error:e}, relatively {:e}",
        error / expected.abs()
    );
}

/// Calls `f` with every entry of a list of the fixture.
fn each(name: &str, f: impl Fn(&dyn Fn(&str) -> f64)) {
    let fixture = fixture("special");
    let entries = fixture[name].as_array().unwrap();
    assert!(entries.len() >= 5);
    for entry in entries {
        f(&|key| number(&entry[key]));
    }
}

#[test]
fn gamma_functions_match_40_digits() {
    each("lgamma_digamma_trigamma", |at| {
        let x = at("x");
        assert_near(ln_gamma(x), at("lgamma"), 5e-16, 1e-15, &format!("ln Γ({x})"));
        assert_near(digamma(x), at("digamma"), 2e-15, 2e-15, &format!("ψ({x})"));
        assert_near(trigamma(x), at("trigamma"), 2e-15, 0.0, &format!("ψ'({x})"));
    });
    each("stirling", |at| {
        let x = at("x");
        let absolute = if x < 10.0 { 4e-15 } else { 1e-100 };
        let remainder = at("lgamma_minus_stirling");
        assert_near(stirling_remainder(x), remainder, 1e-14, absolute, &format!("r({x})"));
        let delta = -at("digamma_minus_log");
        assert_near(ln_minus_digamma(x), delta, 1e-14, 1e-100, &format!("δ({x})"));
    });
}

#[test]
fn inverses_match_40_digits() {
    each("inv_digamma", |at| {
        let y = at("y");
        assert_near(inverse_digamma(y), at("x"), 1e-14, 0.0, &format!("ψ⁻¹({y})"));
    });
    each("gamma_shape_solve", |at| {
        let s = at("s");
        assert_near(gamma_shape(s), at("shape"), 1e-14, 0.0, &format!("shape of {s}"));
    });
    each("bessel_ratio_inverse", |at| {
        let (p, r) = (at("p"), at("R"));
        let rounding = 2.0 * f64::EPSILON / (1.0 - r);
        let found = bessel_ratio_inverse(p, r);
        assert_near(found, at("kappa"), rounding.max(1e-14), 0.0, &format!("A_{p}⁻¹({r})"));
    });
}

#[test]
fn bessel_functions_match_40_digits() {
    each("log_bessel_i", |at| {
        let (nu, kappa) = (at("nu"), at("kappa"));
        let found = ln_bessel_i(nu, kappa);
        assert_near(found, at("log_i"), 1e-14, 1e-14, &format!("ln I_{nu}({kappa})"));
    });
    each("bessel_ratio", |at| {
        let (p, kappa) = (at("p"), at("kappa"));
        let (ratio, complement) = bessel_ratio(p, kappa);
        assert_near(ratio, at("ratio"), 1e-14, 0.0, &format!("A_{p}({kappa})"));
        let expected = at("one_minus_ratio");
        assert_near(complement, expected, 5e-14, 0.0, &format!("1 - A_{p}({kappa})"));
    });
}

#[test]
fn elementary_functions_match_40_digits() {
    each("log_add", |at| {
        let (a, b) = (at("a"), at("b"));
        assert_near(ln_add_exp(a, b), at("logaddexp"), 1e-15, 0.0, &format!("{a} {b}"));
    });
    each("softplus_sigmoid_entropy", |at| {
        let a = at("a");
        // Subnormal results have fewer digits.
        let absolute = 1e-322;
        assert_near(softplus(a), at("softplus"), 1e-15, absolute, &format!("softplus({a})"));
        assert_near(sigmoid(a), at("sigmoid"), 1e-15, absolute, &format!("sigmoid({a})"));
        let entropy = at("bernoulli_entropy");
        assert_near(bernoulli_entropy(a), entropy, 1e-15, 4e-321, &format!("entropy({a})"));
    });
    each("lbeta", |at| {
        let (a, b) = (at("a"), at("b"));
        assert_near(ln_beta(a, b), at("lbeta"), 1e-14, 1e-14, &format!("ln B({a}, {b})"));
    });
    each("scaled_e1", |at| {
        let y = at("y");
        let found = scaled_exponential_integral(y);
        assert_near(found, at("exp_y_e1"), 1e-14, 0.0, &format!("e^y E₁({y})"));
    });
}

/// Entropies over the grids of the golden families, extremes included: to 1e-12 of the larger of 1 and the value, and
/// to 1e-13 where no term is large.
#[test]
fn entropies_match_50_digits_where_textbook_forms_cancel() {
    let fixture = fixture("families");
    let grid = |name: &str| fixture["families"][name]["grid"].as_array().unwrap().clone();
    let theta = |point: &Value| point["theta"].as_array().unwrap().iter().map(number).collect();
    let mut count = 0;
    let mut check = |name: &str, entropy: &dyn Fn(&[f64]) -> f64| {
        for point in grid(name) {
            let theta: Vec<f64> = theta(&point);
            let expected = number(&point["entropy"]);
            let found = entropy(&theta);
            println!("{name} {theta:?} {found} {:e}", found - expected);
            assert_near(found, expected, 1e-13, 1e-13, &format!("{name} {theta:?}"));
            count += 1;
        }
    };
    check("gamma", &|t| gamma_entropy(t[0], t[1]));
    check("beta", &dirichlet_entropy);
    check("dirichlet", &dirichlet_entropy);
    check("von_mises", &|t| von_mises_fisher_entropy(2.0, t[1]));
    check("von_mises_fisher", &|t| von_mises_fisher_entropy((t.len() - 1) as f64, t[0]));
    assert!(count > 20);
}

/// Every expansion and every border between them, orders to 1e4 and arguments to 1e10.
#[test]
fn bessel_functions_match_60_digits_at_every_order_and_size() {
    let fixture = fixture("bessel");
    let values = fixture["values"].as_array().unwrap();
    assert!(values.len() > 200);
    for entry in values {
        let entry: Vec<f64> = entry.as_array().unwrap().iter().map(number).collect();
        let [order, kappa, ln_i, ratio, complement, entropy] = entry[..] else { panic!() };
        let what = |name: &str| format!("{name} at order {order}, argument {kappa}");
        let dim = 2.0 * order + 2.0;
        // Log-gamma and powers of this size cancel where the argument is much smaller than the order.
        let largest = (order * (order + 1.0).ln()).max((order * kappa.ln()).abs()).max(1.0);
        assert_near(ln_bessel_i(order, kappa), ln_i, 1e-14, 1e-15 * largest, &what("ln I"));
        let found = bessel_ratio(dim, kappa);
        assert_near(found.0, ratio, 1e-14, 0.0, &what("ratio"));
        assert_near(found.1, complement, 5e-14, 0.0, &what("complement"));
        let largest = (order * (order + 1.0).ln()).max((0.5 * dim - 0.5) * kappa.ln()).max(1.0);
        let found = von_mises_fisher_entropy(dim, kappa);
        assert_near(found, entropy, 1e-14, 3e-14_f64.max(2e-15 * largest), &what("entropy"));
        if ratio > 1e-9 && complement > 1e-9 {
            let back = bessel_ratio_inverse(dim, ratio);
            assert_near(back, kappa, (4e-16 / complement).max(4e-14), 0.0, &what("inverse"));
        }
    }
}

/// Concentrations over nine decades: the equations hold to rounding. Rounding of the means alone moves a solution by ε
/// times the sum of the concentrations and more; so only those near 1 are compared themselves.
#[test]
fn dirichlet_concentrations_solve_their_equations() {
    let mut uniforms = common::Uniforms::new(5);
    for trial in 0..3000 {
        let k = 2 + trial % 12;
        let level = -3.0 + 7.0 * uniforms.next();
        let a: Vec<f64> = (0..k)
            .map(|_| 10f64.powf((level + 2.0 * uniforms.normal()).clamp(-3.0, 6.0)))
            .collect();
        let total: f64 = a.iter().sum();
        let rest = ln_minus_digamma(total);
        let means: Vec<f64> =
            a.iter().map(|&a| (a / total).ln() - ln_minus_digamma(a) + rest).collect();
        let found = dirichlet_concentration(&means).unwrap();
        let total: f64 = found.iter().sum();
        let rest = ln_minus_digamma(total);
        for (f, m) in found.iter().zip(&means) {
            let back = (f / total).ln() - ln_minus_digamma(*f) + rest;
            let rounding = 8.0 * f64::EPSILON * m.abs().max(1.0 / f).max(1.0);
            assert_near(back, *m, 0.0, rounding, &format!("mean {m} of {a:?}, trial {trial}"));
        }
        if total < 10.0 && a.iter().all(|&a| a > 0.1) {
            for (f, a) in found.iter().zip(&a) {
                assert_near(*f, *a, 2e-13, 0.0, &format!("{a}, trial {trial}"));
            }
        }
    }
    for infeasible in [vec![0.0, -1.0], vec![-0.1; 3], vec![-1.0, f64::NEG_INFINITY], vec![-1.0]] {
        assert_eq!(dirichlet_concentration(&infeasible), None, "{infeasible:?}");
    }
    // What M-steps may meet: one point repeated (the sum is 1 to rounding) has no finite solution, or a huge one.
    let point = [0.2f64, 0.3, 0.5];
    let logarithms: Vec<f64> = point.iter().map(|x| x.ln()).collect();
    assert!(dirichlet_concentration(&logarithms).is_none_or(|a| a.iter().sum::<f64>() > 1e13));
}

#[test]
fn inverses_return_what_went_in() {
    for exponent in -300..=300 {
        let x = 10f64.powf(f64::from(exponent) / 30.0);
        let y = digamma(x);
        // Rounding of y moves x by ε |y| / ψ'(x).
        let rounding = (2.0 * f64::EPSILON * y.abs() + 4e-15) / (x * trigamma(x));
        assert_near(inverse_digamma(y), x, rounding.max(4e-15), 0.0, &format!("ψ⁻¹(ψ({x}))"));
        let found = gamma_shape(ln_minus_digamma(x));
        assert_near(found, x, 2e-14, 0.0, &format!("shape {x}"));
    }
    assert_eq!(gamma_shape(0.0), f64::INFINITY);
    assert_eq!(bessel_ratio_inverse(3.0, 0.0), 0.0);
    assert_eq!(bessel_ratio_inverse(3.0, 1.0), f64::INFINITY);
}
