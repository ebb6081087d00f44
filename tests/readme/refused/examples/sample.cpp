// What the documents beside this folder cut from.
int main()
{
  // [inside]
  int answer = 42;
  // [/inside]
  // [unclosed]
// [body]
  int list[] = {1, 2};  // a; b
  return list[answer - 42] - 1;
// [/body]
}
