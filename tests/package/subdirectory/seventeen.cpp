// A part of the parent that does not use moe keeps the parent's standard.
static_assert(__cplusplus == 201703L);
