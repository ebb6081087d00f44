# A user with more warnings than ours, all of them errors, and no -isystem to hide our headers from
# them.
set(CMAKE_NO_SYSTEM_FROM_IMPORTED ON)
add_compile_options(-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion
  -Wold-style-cast -Wcast-qual -Wcast-align -Wdouble-promotion -Wundef -Wnon-virtual-dtor
  -Woverloaded-virtual -Wextra-semi -Wmissing-declarations -Werror)
